// A hub on the loopback with one repository, whose answers tests can bend. Each request has a connection of its own.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "hub/remote.hpp"
#include "wire/scripted_server.hpp"

namespace tidemill::test {

class FakeHub {
 public:
  struct Request {
    std::string target;  // "/acme/tiny/resolve/..."
    std::string head;

    // Its value; empty if absent. `name` as the client writes it.
    std::string header(std::string_view name) const;
  };
  // The bytes of an answer, after which the connection is closed; none: as a hub answers.
  using Answer = std::function<std::optional<std::string>(const Request&)>;

  FakeHub();

  // Set before the requests that they are for.
  std::map<std::string, std::string> files;  // by path; those with model weights in their names lie in LFS
  std::string commit = std::string(40, 'c');
  size_t page = 1000;    // files in one answer
  bool has_oids = true;  // the list has checksums
  bool has_tags = true;  // files have entity tags
  bool has_ranges = true;
  Answer answer;

  std::string url() const { return server_->url(""); }
  std::vector<Request> requests() const;
  // Of files alone.
  std::vector<Request> downloads() const;
  // What the hub says by itself.
  std::string usual_answer(const Request& request) const;

  static std::string whole(int status, std::string_view headers, std::string_view body);

 private:
  std::string tree(std::string_view target) const;
  std::string file(const Request& request, const std::string& path) const;

  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::unique_ptr<ScriptedServer> server_;  // last: it uses all of the above
};

// What ends a fetch. Outlives the hub of whose answers it is set.
class StopSwitch {
 public:
  StopSwitch();
  ~StopSwitch();
  StopSwitch(const StopSwitch&) = delete;
  StopSwitch& operator=(const StopSwitch&) = delete;

  int descriptor() const { return ends_[0]; }
  void set() const;

 private:
  int ends_[2];
};

// Options to reach it with: pauses take no time, and are kept here.
struct HubClient {
  explicit HubClient(const FakeHub& hub);
  HubClient(const HubClient&) = delete;
  HubClient& operator=(const HubClient&) = delete;

  hub::RemoteOptions options;
  std::vector<base::Duration> pauses;
  std::vector<std::string> reasons;
};

}  // namespace tidemill::test
