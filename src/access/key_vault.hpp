// Where API keys are kept: one document in a file or in the shared store.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "access/api_key.hpp"
#include "base/result.hpp"
#include "session/session_store.hpp"

namespace tidemill::access {

struct KeyDocument {
  std::vector<ApiKey> keys;
  std::string revision;  // changes with the document; "" if there is none yet
  std::string concern;   // what its owner should know of it: that it is empty, or that others can read it
};

// Thread-safe; calls may block on a disk or the network. Errors: `corrupt` (names the field), `io`, and the store's
// own.
class KeyVault {
 public:
  virtual ~KeyVault() = default;

  virtual std::string where() const = 0;  // for messages
  // A vault that does not exist yet is empty.
  virtual base::Result<KeyDocument> read() = 0;
  // Whether the document is another than that of `revision`; costs less than reading it.
  virtual base::Result<bool> changed(const std::string& revision) = 0;
  // Reads, changes and writes back; of changes at the same time, by several processes too, none is lost. `change` may
  // run more than once, and keeps everything as it was by returning an error.
  using Change = std::function<base::Result<void>(std::vector<ApiKey>&)>;
  virtual base::Result<void> update(const Change& change) = 0;
};

// A JSON file, readable by its owner alone; written whole and renamed, with a lock on `path`.lock.
std::unique_ptr<KeyVault> keys_in_file(std::string path);

// The blob "access/keys" of a store, which must outlive the vault. `name` names it in messages.
std::unique_ptr<KeyVault> keys_in_store(session::SharedState& store, std::string name);

// A Redis (redis://..., rediss://..., session/session_store.hpp) or else a file. `ca_file` as of StoreOptions. Errors:
// those of session::open_store.
base::Result<std::unique_ptr<KeyVault>> open_keys(const std::string& location, const std::string& ca_file = "");

}  // namespace tidemill::access
