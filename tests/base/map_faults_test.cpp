#include "base/map_faults.hpp"

#include <csignal>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "temporary_folder.hpp"

namespace tidemill::base {
namespace {

// Reads the last byte of a file that was cut short since it was mapped.
void read_what_was_cut(const std::filesystem::path& path) {
  auto opened = MappedFile::open(path);
  const MappedFile moved = std::move(opened).value();
  std::filesystem::resize_file(path, 10);
  const volatile std::byte last = moved.bytes().back();
  static_cast<void>(last);
}

TEST(MapFaultsDeathTest, NameTheFile) {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.put("model.gguf", std::string(100'000, 'x'));
  EXPECT_EXIT(
      {
        explain_map_faults();
        read_what_was_cut(path);
      },
      testing::ExitedWithCode(1), "tidemill: '.*/model.gguf' was cut short");
}

TEST(MapFaultsDeathTest, OfOtherMemoryEndAsBefore) {
  EXPECT_EXIT(
      {
        std::signal(SIGBUS, [](int) { std::_Exit(7); });
        explain_map_faults();
        static_cast<void>(NamedMap(std::as_bytes(std::span("forgotten")), "model.gguf"));
        std::raise(SIGBUS);
      },
      testing::ExitedWithCode(7), "^$");
}

}  // namespace
}  // namespace tidemill::base
