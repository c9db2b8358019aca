// The variables that Kubernetes' kubelet writes into the environment of every pod for each Service of its namespace. A
// Service named "tidemill" or "tidemill-server" has them begin as our own do, and they are nobody's configuration.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill::base {

// Whether `name`, with this value, is one of these, NAME being a Service's name in capitals, with underscores for
// dashes (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables):
//   NAME_SERVICE_HOST=10.0.0.11                       an IP address
//   NAME_SERVICE_PORT=8080, NAME_SERVICE_PORT_HTTP=8080
//   NAME_PORT=tcp://10.0.0.11:8080, NAME_PORT_8080_TCP=tcp://10.0.0.11:8080
//   NAME_PORT_8080_TCP_PROTO=tcp, NAME_PORT_8080_TCP_PORT=8080, NAME_PORT_8080_TCP_ADDR=10.0.0.11
// The value must be of its form, so that TIDEMILL_SERVER_PORT=8080 is an option all the same. NAME_SERVICE_PORT, whose
// value could be anybody's, is one only where `environment` has the NAME_SERVICE_HOST that kubelet writes beside it:
// otherwise it is rather an option misspelt.
bool is_service_variable(std::string_view name, std::string_view value,
                         const std::vector<std::pair<std::string, std::string>>& environment);

}  // namespace tidemill::base
