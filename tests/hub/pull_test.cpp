#include "hub/pull.hpp"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.hpp"
#include "expect_says.hpp"
#include "hub/fake_hub.hpp"
#include "hub/part_file.hpp"
#include "model/small_disk.hpp"
#include "temporary_folder.hpp"

namespace tidemill::hub {
namespace {

namespace fs = std::filesystem;

using base::ErrorCode;
using namespace std::chrono_literals;
using test::FakeHub;
using test::HubClient;

// Bytes that are all over the place, so that no piece of them passes for another.
std::string content(size_t size, uint32_t seed) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<char>(seed >> 24);
  }
  return bytes;
}

class HubPull : public ::testing::Test {
 protected:
  HubPull() { hub_.files = {{"tiny-Q4_K_M.gguf", content(300'000, 1)}, {"README.md", "about"}}; }

  ModelName name(const std::string& choice = "", const std::string& revision = "main") const {
    return {.repository = "acme/tiny", .revision = revision, .choice = choice};
  }
  base::Result<Pulled> fetch(const std::string& choice = "", const std::string& revision = "main") {
    options_.remote = client_.options;
    return pull(name(choice, revision), cache_, options_, clock_);
  }
  // Of what the name means in the cache.
  std::string found(const std::string& choice = "", const std::string& revision = "main") const {
    const auto path = cache_.find(name(choice, revision));
    if (!path) return "error: " + path.error().message();
    const auto text = base::read_file(*path);
    return text ? *text : text.error().message();
  }
  fs::path part_of(const std::string& path) const {
    const RepoFile file{
        .path = path,
        .size = hub_.files.at(path).size(),
        .digest = Digest{.kind = DigestKind::sha256, .hex = digest_of(DigestKind::sha256, hub_.files.at(path))}};
    return part_path(cache_.blob("acme/tiny", file, hub_.commit));
  }
  // A hub that closes the connection of each download after so many bytes of the answer's body.
  FakeHub::Answer cutting(size_t bytes) {
    return [this, bytes](const FakeHub::Request& request) -> std::optional<std::string> {
      if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
      const std::string whole = hub_.usual_answer(request);
      return whole.substr(0, whole.find("\r\n\r\n") + 4 + bytes);
    };
  }
  std::string& model() { return hub_.files.at("tiny-Q4_K_M.gguf"); }

  FakeHub hub_;
  HubClient client_{hub_};
  test::TemporaryFolder folder_;
  Cache cache_{folder_.path() / "cache"};
  PullOptions options_;
  base::ManualClock clock_;
};

TEST_F(HubPull, FetchesWhatIsWantedAndNothingElse) {
  std::vector<std::pair<uint64_t, uint64_t>> progress;
  options_.on_progress = [&](uint64_t done, uint64_t total) { progress.emplace_back(done, total); };
  const auto pulled = fetch();
  ASSERT_TRUE(pulled) << pulled.error().to_string();
  EXPECT_EQ(pulled->commit, hub_.commit);
  EXPECT_EQ(pulled->path, cache_.root() / "models--acme--tiny/snapshots" / hub_.commit / "tiny-Q4_K_M.gguf");
  EXPECT_EQ(pulled->bytes, 300'000);
  EXPECT_EQ(pulled->missing, 300'000);
  ASSERT_EQ(hub_.downloads().size(), 1);
  EXPECT_EQ(hub_.downloads()[0].header("Accept-Encoding"), "identity");
  EXPECT_EQ(found(), model());
  EXPECT_FALSE(fs::exists(part_of("tiny-Q4_K_M.gguf")));
  EXPECT_EQ(progress.front(), (std::pair<uint64_t, uint64_t>(0, 300'000)));
  EXPECT_EQ(progress.back(), (std::pair<uint64_t, uint64_t>(300'000, 300'000)));
  // Where it came from is written beside it.
  const auto manifest = cache_.read("acme/tiny", hub_.commit);
  ASSERT_TRUE(manifest);
  ASSERT_EQ(manifest->files.size(), 1);
  EXPECT_EQ(manifest->files[0].from, hub_.url() + "/acme/tiny/resolve/" + hub_.commit + "/tiny-Q4_K_M.gguf");
  EXPECT_EQ(manifest->fetched_as("main"), clock_.wall_now());

  const auto again = fetch();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->missing, 0);
  EXPECT_EQ(hub_.downloads().size(), 1);
}

TEST_F(HubPull, FoldersWithAllTheirWeights) {
  hub_.files = {
      {"config.json", "{\"a\": 1}"},
      {"tokenizer.json", "{}"},
      {"model.safetensors.index.json",
       R"({"weight_map": {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}})"},
      {"model-00001-of-00002.safetensors", content(5000, 2)},
      {"model-00002-of-00002.safetensors", content(7000, 3)},
      {"pytorch_model.bin", "pickle"}};
  const auto pulled = fetch();
  ASSERT_TRUE(pulled) << pulled.error().to_string();
  EXPECT_EQ(pulled->files.size(), 5);
  const auto path = cache_.find(name());
  ASSERT_TRUE(path) << path.error().to_string();
  EXPECT_EQ(*path, pulled->path);
  for (const auto& [file, bytes] : hub_.files) {
    if (file == "pytorch_model.bin") continue;
    EXPECT_EQ(*base::read_file(*path / file), bytes) << file;
  }
  EXPECT_FALSE(fs::exists(*path / "pytorch_model.bin"));
  // A weight that is gone is said, with what brings it back.
  fs::remove(*path / "model-00002-of-00002.safetensors");
  EXPECT_SAYS(cache_.find(name()).error().to_string(), "model-00002-of-00002.safetensors' is gone");
  EXPECT_SAYS(cache_.find(name()).error().to_string(), "tidemill pull hf:acme/tiny");
  ASSERT_TRUE(fetch());
  EXPECT_TRUE(cache_.find(name()));
}

TEST_F(HubPull, FoldersWithHowTheirEmbeddingsArePooled) {
  hub_.files = {{"config.json", "{}"},
                {"tokenizer.json", "{}"},
                {"model.safetensors", "weights"},
                {"modules.json", R"([{"path": "", "type": "sentence_transformers.models.Transformer"},
                                     {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])"},
                {"1_Pooling/config.json", R"({"pooling_mode_lasttoken": true})"},
                {"sentence_bert_config.json", R"({"do_lower_case": false})"}};
  const auto pulled = fetch();
  ASSERT_TRUE(pulled) << pulled.error().to_string();
  for (const auto& [file, bytes] : hub_.files)
    EXPECT_EQ(*base::read_file(pulled->path / file), bytes) << file;
  fs::remove(pulled->path / "1_Pooling/config.json");
  EXPECT_SAYS(cache_.find(name()).error().to_string(), "1_Pooling/config.json' is gone");
  // What is refused when it is read is refused before it is fetched.
  hub_.commit = std::string(40, 'd');
  hub_.files["modules.json"] = R"([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}])";
  const auto dense = fetch();
  ASSERT_FALSE(dense);
  EXPECT_EQ(dense.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(dense.error().to_string(), "hf:acme/tiny: modules.json: a module is of the type");
}

// A folder that was fetched before a file was known to be read is no model until that was looked for.
TEST_F(HubPull, FoldersThatMayLackSomethingAreFetchedAgain) {
  hub_.files = {{"config.json", "{}"}, {"tokenizer.json", "{}"}, {"model.safetensors", "weights"}};
  ASSERT_TRUE(fetch());
  auto manifest = cache_.read("acme/tiny", hub_.commit);
  ASSERT_TRUE(manifest);
  ASSERT_EQ(manifest->looked_for.erase("modules.json"), 1);
  ASSERT_TRUE(cache_.write(*manifest));
  const auto older = cache_.find(name());
  ASSERT_FALSE(older);
  EXPECT_EQ(older.error().code(), ErrorCode::not_found);
  EXPECT_SAYS(older.error().to_string(), "what may be missing is modules.json\n");
  EXPECT_SAYS(older.error().to_string(), "fetch what is missing with: tidemill pull hf:acme/tiny");
  hub_.files["modules.json"] = "[]";
  const auto completed = fetch();
  ASSERT_TRUE(completed) << completed.error().to_string();
  EXPECT_EQ(completed->missing, 2);
  const auto path = cache_.find(name());
  ASSERT_TRUE(path) << path.error().to_string();
  EXPECT_EQ(*base::read_file(*path / "modules.json"), "[]");
}

TEST_F(HubPull, GoesOnWhereTheConnectionBroke) {
  hub_.answer = cutting(70'000);
  const auto pulled = fetch();
  ASSERT_TRUE(pulled) << pulled.error().to_string();
  EXPECT_EQ(found(), model());
  const auto downloads = hub_.downloads();
  ASSERT_EQ(downloads.size(), 5);
  EXPECT_EQ(downloads[0].header("Range"), "");
  for (size_t i = 1; i < downloads.size(); ++i) {
    EXPECT_EQ(downloads[i].header("Range"), fmt::format("bytes={}-", 70'000 * i));
    EXPECT_EQ(downloads[i].header("If-Range"), fmt::format("\"{}\"", digest_of(DigestKind::sha256, model())));
  }
  EXPECT_EQ(client_.pauses.size(), 4);
}

// A line that breaks off after each mebibyte and a bit never runs out of tries.
TEST_F(HubPull, ProgressGivesNewTries) {
  model() = content(size_t{10} << 20, 4);
  hub_.answer = cutting((size_t{1} << 20) + 5);
  ASSERT_TRUE(fetch());
  EXPECT_EQ(found(), model());
  EXPECT_EQ(hub_.downloads().size(), 10);
}

TEST_F(HubPull, GivesUpAndGoesOnAnotherTime) {
  hub_.answer = cutting(1000);
  const auto broken = fetch();
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code(), ErrorCode::unavailable);
  EXPECT_SAYS(broken.error().to_string(), "given up after 5 tries: 'tiny-Q4_K_M.gguf': ");
  EXPECT_EQ(fs::file_size(part_of("tiny-Q4_K_M.gguf")), 5000);
  EXPECT_EQ(found().substr(0, 5), "error");

  // Another run knows no entity tag, and needs none: the name of what lies there is its digest.
  hub_.answer = {};
  std::vector<uint64_t> progress;
  options_.on_progress = [&](uint64_t done, uint64_t) { progress.push_back(done); };
  ASSERT_TRUE(fetch());
  EXPECT_EQ(found(), model());
  EXPECT_EQ(progress.front(), 5000);
  EXPECT_EQ(hub_.downloads().back().header("Range"), "bytes=5000-");
  EXPECT_EQ(hub_.downloads().back().header("If-Range"), "");
}

TEST_F(HubPull, DamagedPartsAreFetchedAnew) {
  hub_.answer = cutting(1000);
  ASSERT_FALSE(fetch());
  base::Result<std::string> part = base::read_file(part_of("tiny-Q4_K_M.gguf"));
  ASSERT_TRUE(part);
  part->at(10) = static_cast<char>(part->at(10) + 1);
  ASSERT_TRUE(base::write_file(part_of("tiny-Q4_K_M.gguf"), *part));
  hub_.answer = {};
  const auto pulled = fetch();
  ASSERT_TRUE(pulled) << pulled.error().to_string();
  EXPECT_EQ(found(), model());
}

TEST_F(HubPull, WhatHasTheWrongChecksumIsNotKept) {
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return FakeHub::whole(200, "", content(300'000, 99));
  };
  const auto pulled = fetch();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(pulled.error().to_string(), "its sha256 is " + digest_of(DigestKind::sha256, content(300'000, 99)));
  EXPECT_SAYS(pulled.error().to_string(), "should be " + digest_of(DigestKind::sha256, model()));
  EXPECT_EQ(hub_.downloads().size(), 2);
  EXPECT_EQ(fs::file_size(part_of("tiny-Q4_K_M.gguf")), 0);
  EXPECT_EQ(found().substr(0, 5), "error");
}

TEST_F(HubPull, AFileThatIsGoneIsNamed) {
  hub_.answer = [](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return FakeHub::whole(404, "X-Error-Code: EntryNotFound\r\n", "");
  };
  const auto pulled = fetch();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), ErrorCode::not_found);
  EXPECT_EQ(pulled.error().to_string(), "'tiny-Q4_K_M.gguf': hf:acme/tiny has no such file, though the hub lists it");
}

TEST_F(HubPull, FilesInGitAreCheckedToo) {
  hub_.files = {{"config.json", "{}"}, {"tokenizer.json", "{}"}, {"model.safetensors", "weights"}};
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (!request.target.ends_with("/config.json")) return std::nullopt;
    return FakeHub::whole(200, "", "[]");
  };
  const auto pulled = fetch();
  ASSERT_FALSE(pulled);
  EXPECT_SAYS(pulled.error().to_string(), "its git-sha1 is");
}

// Without a checksum in the list, an entity tag is what tells two versions apart.
TEST_F(HubPull, TwoVersionsAreNeverJoined) {
  hub_.has_oids = false;
  const std::string old = model();
  hub_.answer = [&, asked = 0](const FakeHub::Request& request) mutable -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    if (asked++ > 0) return std::nullopt;
    const std::string whole = hub_.usual_answer(request);
    model() = content(old.size(), 7);
    return whole.substr(0, 100'000);
  };
  ASSERT_TRUE(fetch());
  EXPECT_NE(model(), old);
  EXPECT_EQ(found(), model());
  // Nor across runs, where nothing could tell them apart: what lies there is begun anew.
  const fs::path blob = fs::canonical(*cache_.find(name()));
  fs::remove(blob);
  ASSERT_TRUE(base::write_file(part_path(blob), "of another"));
  ASSERT_TRUE(fetch());
  EXPECT_EQ(hub_.downloads().back().header("Range"), "");
  EXPECT_EQ(found(), model());
}

// A server that goes on with another version although it was told which one (no If-Range).
TEST_F(HubPull, AnotherTagInTheAnswerIsAnotherFile) {
  hub_.answer = [&, asked = 0](const FakeHub::Request& request) mutable -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    switch (asked++) {
      case 0:
        return "HTTP/1.1 200 OK\r\nETag: \"old\"\r\nContent-Length: 300000\r\n\r\n" + content(5000, 8);
      case 1:
        return FakeHub::whole(206, "ETag: \"new\"\r\nContent-Range: bytes 5000-299999/300000\r\n",
                              model().substr(5000));
      default:
        return std::nullopt;
    }
  };
  ASSERT_TRUE(fetch());
  EXPECT_EQ(found(), model());
  EXPECT_EQ(hub_.downloads().size(), 3);
  EXPECT_EQ(hub_.downloads()[2].header("Range"), "");
}

TEST_F(HubPull, ServersThatKnowNoRangesBeginAnew) {
  hub_.has_ranges = false;
  hub_.answer = [&, asked = 0](const FakeHub::Request& request) mutable -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos || asked++ > 0) return std::nullopt;
    return hub_.usual_answer(request).substr(0, 50'000);
  };
  ASSERT_TRUE(fetch());
  EXPECT_EQ(found(), model());
}

TEST_F(HubPull, AnswersOfAnotherLengthAreRefused) {
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return FakeHub::whole(200, "", model() + "x");
  };
  const auto longer = fetch();
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(longer.error().to_string(), "the server has 300001 bytes of it, and the hub lists 300000");
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return FakeHub::whole(200, "", model().substr(1));
  };
  const auto shorter = fetch();
  ASSERT_FALSE(shorter);
  EXPECT_EQ(shorter.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(shorter.error().to_string(), "the server has 299999 bytes of it, and the hub lists 300000");
  EXPECT_EQ(hub_.downloads().size(), 2);
  // Nor do they pass where the server does not say how many it sends.
  const std::string untold = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return untold + model() + "x";
  };
  EXPECT_SAYS(fetch().error().to_string(), "sends more than the 300000 bytes");
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return untold + model().substr(1);
  };
  EXPECT_SAYS(fetch().error().to_string(), "ends after 299999 of 300000 bytes");
}

// What begins anew again and again comes to an end, however much comes each time.
TEST_F(HubPull, ServersThatNeverGoOnAreGivenUp) {
  model() = content(size_t{3} << 20, 13);
  const std::string first = "HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n" + model().substr(0, size_t{2} << 20);
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return request.header("Range").empty() ? first : FakeHub::whole(416, "Content-Range: bytes */3145728\r\n", "");
  };
  const auto refused = fetch();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::unavailable);
  EXPECT_SAYS(refused.error().to_string(), "given up after 5 tries");
  EXPECT_SAYS(refused.error().to_string(), "': 2 times what had come of its 3145728 bytes was of no use");
  EXPECT_EQ(hub_.downloads().size(), 5);
  ASSERT_EQ(client_.reasons.size(), 4);
  EXPECT_SAYS(client_.reasons[1], "nothing behind the first 2097152 of the 3145728 bytes that the hub lists");
  // A part that was not asked for.
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    if (request.header("Range").empty()) return first;
    return FakeHub::whole(206, "Content-Range: bytes 9-3145727/3145728\r\n", model().substr(9));
  };
  const auto elsewhere = fetch();
  ASSERT_FALSE(elsewhere);
  EXPECT_SAYS(elsewhere.error().to_string(), "given up after 5 tries");
  EXPECT_EQ(hub_.downloads().size(), 10);
}

// The list says more than there is: the server's own word ends it, and what has come stays.
TEST_F(HubPull, AFileThatIsShorterThanListedIsNotAskedForAgainAndAgain) {
  model() = content(size_t{2} << 20, 14);
  const std::string all = model();
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    if (!request.header("Range").empty()) return FakeHub::whole(416, "Content-Range: bytes */2097152\r\n", "");
    return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + all;
  };
  model() += "and more";
  const auto pulled = fetch();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(pulled.error().to_string(), "the server has 2097152 bytes of it, and the hub lists 2097160");
  EXPECT_EQ(hub_.downloads().size(), 2);
}

TEST_F(HubPull, PackedAnswersAreRefused) {
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/resolve/") == std::string::npos) return std::nullopt;
    return FakeHub::whole(200, "Content-Encoding: gzip\r\n", "zipped");
  };
  EXPECT_SAYS(fetch().error().to_string(), "'gzip'");
}

TEST_F(HubPull, DryRunsChangeNothing) {
  options_.dry_run = true;
  const auto dry = fetch();
  ASSERT_TRUE(dry) << dry.error().to_string();
  EXPECT_EQ(dry->missing, 300'000);
  EXPECT_FALSE(dry->files.at(0).cached);
  EXPECT_FALSE(fs::exists(cache_.root()));
  EXPECT_TRUE(hub_.downloads().empty());
}

TEST_F(HubPull, VerifyingFindsWhatRotted) {
  ASSERT_TRUE(fetch());
  const fs::path blob = fs::canonical(*cache_.find(name()));
  std::string damaged = model();
  damaged[5] = static_cast<char>(damaged[5] + 1);
  ASSERT_TRUE(base::write_file(blob, damaged));
  EXPECT_EQ(fetch()->missing, 0);
  options_.verify = true;
  EXPECT_EQ(fetch()->missing, 300'000);
  EXPECT_EQ(found(), model());
  EXPECT_EQ(fetch()->missing, 0);
}

TEST_F(HubPull, TwoAtOnceAreRefused) {
  {
    const auto lock = cache_.lock("acme/tiny");
    ASSERT_TRUE(lock);
    const auto pulled = fetch();
    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().code(), ErrorCode::unavailable);
    EXPECT_SAYS(pulled.error().to_string(), "another process is fetching acme/tiny");
    EXPECT_TRUE(cache_.lock("acme/other"));
  }
  EXPECT_TRUE(fetch());
}

TEST_F(HubPull, ADiskThatIsTooSmallIsSaidFirst) {
  hub_.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.find("/tree/") == std::string::npos) return std::nullopt;
    return FakeHub::whole(200, "",
                          fmt::format(R"([{{"type": "file", "path": "a.gguf", "size": {}}}])", uint64_t{1} << 55));
  };
  const auto pulled = fetch();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), ErrorCode::io);
  EXPECT_SAYS(pulled.error().to_string(), "32.0 PiB more, and 16.0 MiB are to stay free, but the disk");
  EXPECT_SAYS(pulled.error().to_string(), "TIDEMILL_CACHE");
  EXPECT_TRUE(hub_.downloads().empty());
}

TEST_F(HubPull, ADiskThatFillsUpKeepsWhatHasCome) {
  const auto pulled = [this] {
    const test::SmallDisk disk;
    disk.end_at(100'000);
    return fetch();
  }();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), ErrorCode::io);
  EXPECT_SAYS(pulled.error().to_string(), "cannot write");
  EXPECT_TRUE(client_.pauses.empty());
  EXPECT_EQ(fs::file_size(part_of("tiny-Q4_K_M.gguf")), 100'000);
  ASSERT_TRUE(fetch());
  EXPECT_EQ(hub_.downloads().back().header("Range"), "bytes=100000-");
  EXPECT_EQ(found(), model());
}

TEST_F(HubPull, StoppedHalfWayItGoesOnLater) {
  const test::StopSwitch stop;
  client_.options.stop = stop.descriptor();
  options_.on_progress = [&](uint64_t done, uint64_t) {
    if (done > 0) stop.set();
  };
  const auto stopped = fetch();
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::cancelled);
  EXPECT_GT(fs::file_size(part_of("tiny-Q4_K_M.gguf")), 0);
  client_.options.stop = -1;
  options_.on_progress = {};
  ASSERT_TRUE(fetch());
  EXPECT_EQ(found(), model());
}

TEST_F(HubPull, TheNextCommitTakesOverWhenItIsWhole) {
  const std::string old = model();
  hub_.files["big-Q8_0.gguf"] = content(1000, 11);
  ASSERT_TRUE(fetch());
  ASSERT_TRUE(fetch("Q8_0"));
  const std::string first = hub_.commit;
  clock_.advance(1s);
  hub_.commit = std::string(40, 'd');
  model() = content(300'000, 12);
  hub_.answer = cutting(10);
  ASSERT_FALSE(fetch());
  EXPECT_EQ(found("Q4_K_M"), old);
  hub_.answer = {};
  ASSERT_TRUE(fetch());
  EXPECT_EQ(found("Q4_K_M"), model());
  EXPECT_EQ(found("Q4_K_M", first), old);
  // What only the first commit was asked for is still found, and content that both have lies there once.
  EXPECT_EQ(found("Q8_0"), hub_.files["big-Q8_0.gguf"]);
  const size_t downloads = hub_.downloads().size();
  const auto same = fetch("Q8_0");
  ASSERT_TRUE(same);
  EXPECT_EQ(same->missing, 0);
  EXPECT_EQ(hub_.downloads().size(), downloads);
  // To fetch the older commit by its name makes it no newer as a branch.
  clock_.advance(1s);
  const std::string latest = std::exchange(model(), old);
  hub_.commit = first;
  ASSERT_TRUE(fetch("Q4_K_M", first));
  EXPECT_EQ(found("Q4_K_M", first), old);
  EXPECT_EQ(found("Q4_K_M"), latest);
}

TEST_F(HubPull, NamesThatLeadOutOfTheCacheFetchNothing) {
  hub_.files["../../../evil.gguf"] = "evil";
  const auto pulled = fetch();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(pulled.error().to_string(), "evil.gguf");
  EXPECT_FALSE(fs::exists(cache_.root()));
}

}  // namespace
}  // namespace tidemill::hub
