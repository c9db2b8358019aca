// What a client hears of an error.
#pragma once

#include "base/result.hpp"

namespace tidemill::gateway {

// Of a failure that is not the request's own fault, the message without its causes: those name what lies behind the
// gateway (addresses of backends and of the store), and are for the log. So the message of such an error has to be fit
// for clients, and what is not has to be its cause (base::Error::caused_by).
base::Error told_to_clients(const base::Error& error);

}  // namespace tidemill::gateway
