#include "quantize/moment_file.hpp"

#include <span>
#include <utility>

namespace tidemill::quantize {

using base::Result;

namespace {

constexpr const char* kWhat = "what calibrating keeps on the disk";

}  // namespace

Result<MomentFile> MomentFile::create(const std::filesystem::path& folder, uint64_t bytes) {
  auto file = base::NamelessFile::create(folder);
  if (!file) return std::move(file).error().wrap(kWhat);
  if (auto claimed = file->claim(bytes); !claimed) return std::move(claimed).error().wrap(kWhat);
  return MomentFile(std::move(*file));
}

Result<MomentFile::Place> MomentFile::put(Moments moments) {
  const Place place{end_, moments.cols(), moments.rows()};
  for (const std::span<float> piece : moments.pieces()) {
    if (auto written = file_.write_at(std::as_bytes(piece), end_); !written) {
      return std::move(written).error().wrap(kWhat);
    }
    end_ += piece.size_bytes();
  }
  return place;
}

Result<Moments> MomentFile::get(const Place& place) const {
  Moments moments(place.cols);
  moments.set_rows(place.rows);
  uint64_t offset = place.offset;
  for (const std::span<float> piece : moments.pieces()) {
    if (auto read = file_.read_at(std::as_writable_bytes(piece), offset); !read) {
      return std::move(read).error().wrap(kWhat);
    }
    offset += piece.size_bytes();
  }
  return moments;
}

}  // namespace tidemill::quantize
