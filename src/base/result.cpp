#include "base/result.hpp"

namespace tidemill::base {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::corrupt:
      return "corrupt";
    case ErrorCode::too_large:
      return "too_large";
    case ErrorCode::exhausted:
      return "exhausted";
    case ErrorCode::unavailable:
      return "unavailable";
    case ErrorCode::cancelled:
      return "cancelled";
    case ErrorCode::timeout:
      return "timeout";
    case ErrorCode::io:
      return "io";
    case ErrorCode::internal:
      return "internal";
  }
  return "unknown";
}

Error Error::wrap(std::string context) && {
  Error outer(code_, std::move(context));
  outer.param_ = param_;
  outer.cause_ = std::make_shared<const Error>(std::move(*this));
  return outer;
}

std::string Error::to_string() const {
  std::string text = message_;
  for (const Error* inner = cause(); inner != nullptr; inner = inner->cause()) {
    text += ": ";
    text += inner->message_;
  }
  return text;
}

}  // namespace tidemill::base
