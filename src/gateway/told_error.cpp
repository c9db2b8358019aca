#include "gateway/told_error.hpp"

#include <string>

#include "wire/error_body.hpp"

namespace tidemill::gateway {

base::Error told_to_clients(const base::Error& error) {
  if (wire::error_face(error).status < 500) return error;
  return base::Error(error.code(), error.message()).with_param(std::string(error.param()));
}

}  // namespace tidemill::gateway
