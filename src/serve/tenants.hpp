// Who shares a prefix cache: the callers with one API key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tidemill::serve {

// The tenant of an API key: the same in every run and wherever the key stands in the list, and no clue to the key.
std::string tenant_of(std::string_view api_key);

// Of all keys; without any there is one tenant, "".
std::vector<std::string> tenants_of(const std::vector<std::string>& api_keys);

}  // namespace tidemill::serve
