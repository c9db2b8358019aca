// Fetching a model from the hub into the cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "hub/cache.hpp"
#include "hub/listing.hpp"
#include "hub/model_name.hpp"
#include "hub/remote.hpp"

namespace tidemill::hub {

struct PullOptions {
  RemoteOptions remote;
  bool dry_run = false;  // say what would be fetched, and change nothing
  bool verify = false;   // hash what is in the cache already, and fetch anew what is damaged
  // Bytes of all files together. First with what is there already.
  std::function<void(uint64_t done, uint64_t total)> on_progress;
};

struct Pulled {
  struct File {
    RepoFile file;
    bool cached = false;  // before
  };

  std::string commit;
  std::filesystem::path path;  // what a command opens; of a dry run, what it would
  std::vector<File> files;
  uint64_t bytes = 0;    // of all files
  uint64_t missing = 0;  // of those that had to be fetched, or would have to be
};

// Blocks. Errors: those of Remote, choose() and the cache; `io` where the disk is too small, before anything is fetched
// and as it fills; `cancelled`. What has come stays, and the next call goes on with it; what `find` gives is the model
// that was there before until all of the new one is there.
base::Result<Pulled> pull(const ModelName& name, const Cache& cache, const PullOptions& options,
                          const base::Clock& clock = base::SystemClock::instance());

}  // namespace tidemill::hub
