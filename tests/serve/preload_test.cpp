// What may be preloaded, and what is said of what may not.
#include <memory>
#include <string>
#include <sys/stat.h>

#include <gtest/gtest.h>

#include "live_server.hpp"
#include "serve/warm_up.hpp"
#include "temporary_folder.hpp"

namespace tidemill {
namespace {

class Preload : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = test::load_nano_coder(test::small_options()); }
  static void TearDownTestSuite() { model_.reset(); }

  // The message of the error; "(none)" where there is none.
  static std::string fault(const std::filesystem::path& path) {
    const auto read = serve::read_prefixes(path, *model_, 4096);
    return read ? "(none)" : read.error().to_string();
  }
  // Likewise of a file of that name.
  std::string fault_of(const char* name, std::string_view content) const { return fault(folder_.put(name, content)); }

  test::TemporaryFolder folder_;
  inline static std::unique_ptr<serve::LoadedModel> model_;
};

// Whoever opens a pipe waits for a writer, who may never come.
TEST_F(Preload, IsOfFilesAndFolders) {
  const std::filesystem::path pipe = folder_.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(fault(pipe).find("'" + pipe.string() + "': it is neither a file nor a folder"), std::string::npos)
      << fault(pipe);
  EXPECT_EQ(fault_of("system.txt", "You write code."), "(none)");
  EXPECT_EQ(fault(folder_.path()), "(none)") << "a pipe in a folder is left out";
  EXPECT_NE(fault(folder_.path() / "none"), "(none)");
}

TEST_F(Preload, IsOfTextThatIsUtf8) {
  EXPECT_NE(fault_of("system.txt", "You write \xff code.").find("UTF-8"), std::string::npos);
  EXPECT_EQ(fault_of("system.txt", "You write cöde."), "(none)");
}

TEST_F(Preload, IsForTheModelThatIsServed) {
  const std::string more = R"("messages":[{"role":"system","content":"You write code."}]})";
  const std::string other = fault_of("a.json", R"({"model":"gpt-5",)" + more);
  EXPECT_NE(other.find("gpt-5"), std::string::npos) << other;
  EXPECT_NE(other.find(model_->name()), std::string::npos) << other;
  EXPECT_EQ(fault_of("a.json", R"({"model":")" + model_->name() + "\"," + more), "(none)");
  EXPECT_EQ(fault_of("a.json", "{" + more), "(none)");
}

}  // namespace
}  // namespace tidemill
