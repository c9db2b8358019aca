#include "model/gguf_writer.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "gguf_bytes.hpp"
#include "model/gguf.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using test::TemporaryFolder;

void fill(GgufWriter& writer) {
  writer.add_string("general.architecture", "test");
  writer.add_u32("test.count", 7);
  writer.add_f32("test.ratio", 0.5F);
  writer.add_bool("test.flag", true);
  writer.add_strings("test.words", std::vector<std::string>{"one", "", "three"});
  writer.add_floats("test.scores", std::vector<float>{1.0F, -2.0F});
  writer.add_ints("test.ids", std::vector<int32_t>{-1, 5});
  writer.add_bytes("test.bytes", std::string_view("\xFF\0b", 3));
  writer.declare_tensor("vector", tensor::DType::f32, std::vector<int64_t>{3});
  writer.declare_tensor("matrix", tensor::DType::q8_0, std::vector<int64_t>{64, 3});
}

TEST(GgufWriter, RoundTrip) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  const std::string vector(12, 'v');
  const std::string matrix(34 * 2 * 3, 'm');
  {
    GgufWriter writer;
    fill(writer);
    EXPECT_EQ(writer.tensor_bytes(), vector.size() + matrix.size());
    ASSERT_TRUE(writer.begin(path));
    ASSERT_TRUE(writer.write(test::as_bytes(vector)));
    // A tensor may come in portions.
    ASSERT_TRUE(writer.write(test::as_bytes(matrix).first(100)));
    ASSERT_TRUE(writer.write(test::as_bytes(matrix).subspan(100)));
    EXPECT_FALSE(std::filesystem::exists(path));
    ASSERT_TRUE(writer.finish());
  }
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->version(), 3U);
  EXPECT_EQ(file->get_string("general.architecture").value(), "test");
  EXPECT_EQ(file->get_u32("test.count").value(), 7U);
  EXPECT_EQ(file->get_float("test.ratio").value(), 0.5);
  EXPECT_TRUE(file->get_bool("test.flag").value());
  EXPECT_EQ(file->get_strings("test.words").value(), (std::vector<std::string_view>{"one", "", "three"}));
  EXPECT_EQ(file->get_floats("test.scores").value(), (std::vector<float>{1.0F, -2.0F}));
  EXPECT_EQ(file->get_ints("test.ids").value(), (std::vector<int32_t>{-1, 5}));
  EXPECT_EQ(file->get_bytes("test.bytes").value(), std::string_view("\xFF\0b", 3));
  const auto text = [](const GgufTensor* t) {
    return std::string(reinterpret_cast<const char*>(t->data.data()), t->data.size());
  };
  EXPECT_EQ(text(file->find_tensor("vector")), vector);
  EXPECT_EQ(text(file->find_tensor("matrix")), matrix);
  EXPECT_EQ(folder.entries(), 1);
}

TEST(GgufWriter, TakesEntriesOverFromAnotherFile) {
  const TemporaryFolder folder;
  const std::string tensors(12 + 34 * 2 * 3, 't');
  const auto finish = [&](GgufWriter& writer, const std::filesystem::path& path) {
    ASSERT_TRUE(writer.begin(path));
    ASSERT_TRUE(writer.write(test::as_bytes(tensors).first(12)));
    ASSERT_TRUE(writer.write(test::as_bytes(tensors).subspan(12)));
    ASSERT_TRUE(writer.finish());
  };
  GgufWriter first;
  fill(first);
  finish(first, folder.path() / "first.gguf");
  const auto file = GgufFile::open(folder.path() / "first.gguf");
  ASSERT_TRUE(file) << file.error().message();
  GgufWriter second;
  for (const GgufEntry& entry : file->metadata())
    second.add(entry);
  for (const GgufTensor& tensor : file->tensors())
    second.declare_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
  finish(second, folder.path() / "second.gguf");
  EXPECT_EQ(base::read_file(folder.path() / "first.gguf").value(),
            base::read_file(folder.path() / "second.gguf").value());
}

TEST(GgufWriter, LeavesNothingBehindUnlessFinished) {
  const TemporaryFolder folder;
  {
    GgufWriter writer;
    fill(writer);
    ASSERT_TRUE(writer.begin(folder.path() / "model.gguf"));
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.gguf"));
  }
  EXPECT_EQ(folder.entries(), 0);
}

// Nor does a process that is killed, once the same file is written again at the latest.
TEST(GgufWriter, LeavesNothingBehindWhenKilled) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  const pid_t child = ::fork();
  if (child == 0) {
    GgufWriter writer;
    fill(writer);
    const bool begun = writer.begin(path).has_value();
    ::_exit(begun ? 0 : 1);  // without a destructor, as by a kill
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  GgufWriter writer;
  ASSERT_TRUE(writer.begin(path));
  ASSERT_TRUE(writer.finish());
  EXPECT_EQ(folder.entries(), 1);
  EXPECT_EQ(std::filesystem::file_size(path), writer.file_bytes());
}

TEST(GgufWriter, ReplacesOnlyWhenWhole) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  {
    GgufWriter first;
    ASSERT_TRUE(first.begin(path));
    ASSERT_TRUE(first.finish());
  }
  const auto size = std::filesystem::file_size(path);
  {
    GgufWriter second;
    fill(second);
    ASSERT_TRUE(second.begin(path));
  }
  EXPECT_EQ(std::filesystem::file_size(path), size);
}

// Who links to where a large file is to lie wants it there, whether an older one is or not.
TEST(GgufWriter, WritesWhatALinkNames) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "large");
  const auto link = folder.path() / "model.gguf";
  std::filesystem::create_symlink("large/real.gguf", link);
  const auto real = folder.path() / "large" / "real.gguf";
  for (const bool there : {false, true}) {
    EXPECT_EQ(std::filesystem::exists(real), there);
    GgufWriter writer;
    if (there) writer.add_u32("test.count", 1);
    ASSERT_TRUE(writer.begin(link));
    ASSERT_TRUE(writer.finish());
    EXPECT_EQ(std::filesystem::read_symlink(link), "large/real.gguf");
    EXPECT_FALSE(std::filesystem::is_symlink(real));
    EXPECT_EQ(std::filesystem::file_size(real), writer.file_bytes());
    EXPECT_EQ(folder.entries(), 2);
  }
}

TEST(GgufWriter, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "folder");
  std::filesystem::create_symlink("folder", folder.path() / "to-folder");
  std::filesystem::create_symlink("b", folder.path() / "a");
  std::filesystem::create_symlink("a", folder.path() / "b");
  for (const char* name : {"folder", "to-folder", "a"}) {
    GgufWriter writer;
    const auto begun = writer.begin(folder.path() / name);
    ASSERT_FALSE(begun) << name;
    EXPECT_EQ(begun.error().code(), base::ErrorCode::io) << name;
    EXPECT_NE(begun.error().message().find(name), std::string::npos) << begun.error().message();
  }
  EXPECT_TRUE(std::filesystem::is_symlink(folder.path() / "a"));
  EXPECT_EQ(folder.entries(), 4);
}

TEST(GgufWriter, NamesTheFolderThatIsMissing) {
  GgufWriter writer;
  const auto begun = writer.begin("/nonexistent/folder/model.gguf");
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code(), base::ErrorCode::not_found);
  EXPECT_NE(begun.error().message().find("/nonexistent/folder"), std::string::npos);
}

}  // namespace
}  // namespace tidemill::model
