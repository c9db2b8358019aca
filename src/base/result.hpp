// Result<T>: a value or an Error. Every call that crosses a room's border and can fail for a reason outside the program
// (a request, a file, a peer) returns one; nothing is thrown across a border. Asserts are for the program's own
// invariants only.
//
// The interface follows std::expected (C++23), which neither g++ 12 nor Debian 12 offers, but for one thing: what is
// taken out of a temporary Result is a value, not a reference into it, so `for (const auto& x : f().value())` and
// `const auto& x = *f()` keep what they look at.
#pragma once

#include <cassert>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace tidemill::base {

// What kind of failure it is, which decides the HTTP status and the exit code. The message carries the rest.
enum class ErrorCode {
  invalid_argument,  // the caller's input is wrong; saying the same again will fail again
  not_found,         // a file, model, tensor or route that does not exist
  unsupported,       // well-formed, but something this build does not do
  corrupt,           // a file or message that contradicts its own format
  too_large,         // over a limit: prompt longer than the context, body over the cap
  exhausted,         // out of a resource now (queue full, memory); may succeed later
  unavailable,       // not serving: starting, draining, peer down
  cancelled,         // the caller went away
  timeout,           // a deadline passed
  io,                // the operating system refused
  internal,          // a bug in Tidemill
};

std::string_view to_string(ErrorCode code);

// A failure: what went wrong and what would be right, in words meant for the person who can mend it.
class Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // The request field, flag or config key at fault; empty if none. OpenAI's error object calls it `param`.
  const std::string& param() const { return param_; }
  const Error* cause() const { return cause_.get(); }

  Error with_param(std::string param) && {
    param_ = std::move(param);
    return std::move(*this);
  }
  // A new error that says `context` and keeps this one as its cause (code and param are inherited).
  Error wrap(std::string context) &&;
  // The same with a cause, which keeps a code of its own.
  Error caused_by(Error cause) && {
    cause_ = std::make_shared<const Error>(std::move(cause));
    return std::move(*this);
  }

  // "message: cause: cause of cause", for logs and the command line.
  std::string to_string() const;

 private:
  ErrorCode code_;
  std::string message_;
  std::string param_;
  std::shared_ptr<const Error> cause_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return assert(has_value()), *std::get_if<0>(&state_); }
  const T& value() const& { return assert(has_value()), *std::get_if<0>(&state_); }
  T value() && { return assert(has_value()), std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { return assert(state_.index() == 1), *std::get_if<1>(&state_); }
  const Error& error() const& { return assert(state_.index() == 1), *std::get_if<1>(&state_); }
  Error error() && { return assert(state_.index() == 1), std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(std::make_unique<Error>(std::move(error))) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }

  Error& error() & { return assert(error_), *error_; }
  const Error& error() const& { return assert(error_), *error_; }
  Error error() && { return assert(error_), std::move(*error_); }

 private:
  std::unique_ptr<Error> error_;
};

}  // namespace tidemill::base

#define TM_CONCAT_(a, b) a##b
#define TM_CONCAT(a, b) TM_CONCAT_(a, b)

// TM_TRY(auto x, f());  declares x with f()'s value, or returns f()'s error from the enclosing function.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration takes none
#define TM_TRY(declaration, expression) TM_TRY_(TM_CONCAT(tm_result_, __LINE__), declaration, expression)
#define TM_TRY_(result, declaration, expression) \
  auto result = (expression);                    \
  if (!result) return std::move(result).error(); \
  declaration = std::move(result).value()
// NOLINTEND(bugprone-macro-parentheses)

// TM_CHECK(f());  returns f()'s error from the enclosing function, if it has one.
#define TM_CHECK(expression)                                         \
  do {                                                               \
    auto tm_check_result = (expression);                             \
    if (!tm_check_result) return std::move(tm_check_result).error(); \
  } while (false)
