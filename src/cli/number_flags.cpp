#include "cli/number_flags.hpp"

#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace tidemill::cli {

namespace {

template <typename Number>
std::optional<Number> whole_number(std::string_view text) {
  Number number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

CLI::Option* add_seed_flag(CLI::App& command, std::function<void(uint64_t)> take, const std::string& help) {
  const auto read = [take = std::move(take)](const std::string& text) {
    if (const auto plain = whole_number<uint64_t>(text)) return take(*plain);
    if (const auto with_sign = whole_number<int64_t>(text)) return take(static_cast<uint64_t>(*with_sign));
    throw CLI::ValidationError("--seed", fmt::format("'{}' is not a whole number of 64 bits", text));
  };
  return command.add_option_function<std::string>("--seed", read, help)->type_name("INT");
}

CLI::Validator at_least_zero() {
  const auto check = [](std::string& text) -> std::string {
    const auto number = whole_number<int64_t>(text);
    if (number && *number >= 0) return {};
    return fmt::format("'{}' is not a whole number of at least 0", text);
  };
  return {check, "at least 0"};
}

CLI::Validator number_between(double least, double most) {
  const auto check = [least, most](std::string& text) -> std::string {
    double number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, fault] = std::from_chars(text.data(), end, number);
    if (fault == std::errc() && stop == end && number >= least && number <= most) return {};
    return fmt::format("'{}' is not a number of {} to {}", text, least, most);
  };
  return {check, fmt::format("{} to {}", least, most)};
}

}  // namespace tidemill::cli
