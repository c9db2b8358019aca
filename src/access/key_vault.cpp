#include "access/key_vault.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "base/file.hpp"
#include "session/redis_address.hpp"

namespace tidemill::access {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr const char* blob_key = "access/keys";
constexpr int most_attempts = 100;
constexpr size_t most_file_bytes = size_t{256} << 20;

std::string write_document(const std::vector<ApiKey>& keys) {
  json::array list;
  for (const ApiKey& key : keys)
    list.emplace_back(to_json(key));
  return json::serialize(json::object{{"version", 1}, {"keys", std::move(list)}});
}

Result<std::vector<ApiKey>> parse_document(std::string_view text, std::string_view where) {
  auto parsed = base::parse_json(text);
  if (!parsed) return Error(ErrorCode::corrupt, fmt::format("{} holds no keys: {}", where, parsed.error().message()));
  const json::object* object = parsed->if_object();
  const json::value* version = object == nullptr ? nullptr : object->if_contains("version");
  const json::value* list = object == nullptr ? nullptr : object->if_contains("keys");
  if (version == nullptr || *version != 1 || list == nullptr || !list->is_array()) {
    return Error(ErrorCode::corrupt,
                 fmt::format(R"({} holds no keys: it must be {{"version": 1, "keys": [...]}})", where));
  }
  std::vector<ApiKey> keys;
  for (const json::value& value : list->get_array()) {
    auto key = parse_key(value);
    if (!key) return std::move(key).error().wrap(std::string(where));
    keys.push_back(std::move(*key));
  }
  return keys;
}

std::string nobody_is_let_in(std::string_view where) {
  return fmt::format(
      "{} holds no keys, so nobody is let in: `tidemill keys create --keys {} --tenant NAME --name NAME` "
      "makes one",
      where, where);
}

// Held while it lives, also against other processes.
class FileLock {
 public:
  static Result<FileLock> take(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return base::system_error("cannot lock", path);
    FileLock lock(file);
    while (::flock(file, LOCK_EX) != 0) {
      if (errno != EINTR) return base::system_error("cannot lock", path);
    }
    return lock;
  }
  FileLock(FileLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock() {
    if (file_ >= 0) ::close(file_);
  }

 private:
  explicit FileLock(int file) : file_(file) {}
  int file_;
};

class FileVault final : public KeyVault {
 public:
  explicit FileVault(std::string path) : path_(std::move(path)) {}

  std::string where() const override { return path_; }

  Result<KeyDocument> read() override {
    const Seen seen = look();  // before the content: a change between the two is seen the next time
    if (seen.revision.empty()) return KeyDocument{{}, "", nobody_is_let_in(path_)};
    TM_TRY(const std::string text, base::read_file(path_, most_file_bytes));
    KeyDocument document{{}, seen.revision, ""};
    TM_TRY(document.keys, parse_document(text, path_));
    if ((seen.mode & 07) != 0) {
      document.concern = fmt::format("{} may be read by everybody on this machine (mode {:04o}): chmod 600 {}", path_,
                                     seen.mode & 07777, path_);
    } else if (document.keys.empty()) {
      document.concern = nobody_is_let_in(path_);
    }
    return document;
  }

  Result<bool> changed(const std::string& revision) override { return look().revision != revision; }

  Result<void> update(const Change& change) override {
    TM_TRY(const FileLock lock, FileLock::take(path_ + ".lock"));
    TM_TRY(KeyDocument document, read());
    TM_CHECK(change(document.keys));
    TM_TRY(base::FileWriter writer, base::FileWriter::create(path_));
    const std::string text = write_document(document.keys);
    TM_CHECK(writer.write(std::as_bytes(std::span(text))));
    return writer.finish();
  }

 private:
  struct Seen {
    std::string revision;  // empty: there is no such file
    mode_t mode = 0;
  };
  // Every update is another file, so its number and time tell. What cannot be looked at is left to be read, which says
  // why not.
  Seen look() const {
    struct stat status {};
    if (::stat(path_.c_str(), &status) != 0) return {errno == ENOENT ? "" : fmt::format("error {}", errno), 0};
    return {fmt::format("{}-{}-{}.{:09}", status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec),
            status.st_mode};
  }

  const std::string path_;
};

class StoreVault final : public KeyVault {
 public:
  StoreVault(session::SharedState& store, std::string name) : store_(store), name_(std::move(name)) {}
  StoreVault(std::unique_ptr<session::Store> store, std::string name)
      : owned_(std::move(store)), store_(*owned_), name_(std::move(name)) {}

  std::string where() const override { return name_; }

  Result<KeyDocument> read() override {
    TM_TRY(const session::Blob blob, store_.read_blob(blob_key));
    if (blob.version == 0) return KeyDocument{{}, "", nobody_is_let_in(name_)};
    TM_TRY(std::vector<ApiKey> keys, parse_document(blob.value, name_));
    std::string concern = keys.empty() ? nobody_is_let_in(name_) : "";
    return KeyDocument{std::move(keys), std::to_string(blob.version), std::move(concern)};
  }

  Result<bool> changed(const std::string& revision) override {
    TM_TRY(const session::Blob blob, store_.read_blob(blob_key));
    return (blob.version == 0 ? "" : std::to_string(blob.version)) != revision;
  }

  Result<void> update(const Change& change) override {
    for (int attempt = 0; attempt < most_attempts; ++attempt) {
      TM_TRY(KeyDocument document, read());
      TM_CHECK(change(document.keys));
      const int64_t version = document.revision.empty() ? 0 : std::stoll(document.revision);
      TM_TRY(const std::optional<int64_t> written,
             store_.replace_blob(blob_key, version, write_document(document.keys)));
      if (written) return {};
    }
    return Error(ErrorCode::exhausted, fmt::format("others keep changing the keys in {}: try again", name_));
  }

 private:
  const std::unique_ptr<session::Store> owned_{};  // if nobody else keeps it
  session::SharedState& store_;
  const std::string name_;
};

}  // namespace

std::unique_ptr<KeyVault> keys_in_file(std::string path) {
  return std::make_unique<FileVault>(std::move(path));
}

std::unique_ptr<KeyVault> keys_in_store(session::SharedState& store, std::string name) {
  return std::make_unique<StoreVault>(store, std::move(name));
}

Result<std::unique_ptr<KeyVault>> open_keys(const std::string& location, const std::string& ca_file) {
  TM_CHECK(session::check_location(location));
  if (!session::is_redis_url(location)) return keys_in_file(location);
  TM_TRY(const session::RedisAddress address, session::parse_redis_url(location));
  TM_TRY(auto store, session::open_store({.path = location, .ca_file = ca_file}));
  return std::unique_ptr<KeyVault>(std::make_unique<StoreVault>(std::move(store), address.name()));
}

}  // namespace tidemill::access
