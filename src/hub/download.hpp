// One file from the hub into the cache: with a range request from where it was, as often as connections break off.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/result.hpp"
#include "hub/listing.hpp"
#include "hub/remote.hpp"

namespace tidemill::hub {

// Fetches what is at `url` to `target`, which appears when all bytes are there and have the digest. Bytes of two
// versions are never joined: what is gone on with is the same by its digest (across runs) and by its entity tag (within
// one), and the whole is hashed at the end. Where a server makes it begin anew again and again, that ends as tries
// without progress do. `on_have` is told how much of it is there: more and more, and less where it begins anew. Errors:
// those of Remote, `corrupt` where the server has other bytes than the list says (one more whole try comes before
// that), `io`. What has come stays for another time.
base::Result<void> download(Remote& remote, const RepoFile& file, const std::string& url,
                            const std::filesystem::path& target, const std::function<void(uint64_t)>& on_have);

}  // namespace tidemill::hub
