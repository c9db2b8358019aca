// A fixed team of threads that run one short parallel region after another: the engine's compute threads.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace tidemill::base {

// Non-owning reference to a callable, cheaper than std::function on the hot path. The callable must outlive the call.
template <typename Signature>
class FunctionRef;
template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef(F&& f)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// `size` threads in all, the caller among them. Work is handed out in chunks on demand, so a member that the operating
// system has put aside delays the others by one chunk at most, and one that has not begun a chunk delays nobody.
// Members spin briefly for the next region, then sleep. Beside a busy process that shares a member's processor, the
// member rests between chunks (courtesy.hpp), and it stays off the processor of the owner. Which member runs a chunk is
// left to chance: results must not depend on it.
//
// One thread may call `parallel_for` at a time (the owner); regions do not nest.
class ThreadTeam {
 public:
  // size >= 1; a team of 1 starts no thread. Where the system refuses threads the team is smaller, and a warning says
  // so.
  explicit ThreadTeam(int size);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const;

  // Calls body(begin, end, member) on disjoint ranges that cover [0, count), each of at most `chunk` items (chunk >= 1)
  // and starting at a multiple of it; member is in [0, size()) and no two concurrent calls share one. Returns when all
  // are done; writes made by the body are visible to the caller. The body must not throw.
  void parallel_for(int64_t count, int64_t chunk, FunctionRef<void(int64_t begin, int64_t end, int member)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill::base
