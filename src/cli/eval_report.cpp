#include "cli/eval_report.hpp"

#include <iterator>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/units.hpp"

namespace tidemill::cli {

namespace json = base::json;

using evaluate::Comparison;
using evaluate::GroupScore;
using evaluate::TaskResult;
using evaluate::TextScore;

namespace {

// 0 of nothing.
double share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

json::object facts_json(const SubjectFacts& facts) {
  return {{"model", facts.name},
          {"arithmetic", facts.plain ? "f32" : "as it is served"},
          {"activations", facts.activations},
          {"kv_type", facts.kv_type},
          {"file_bytes", facts.file_bytes},
          {"weight_bytes", facts.weight_bytes}};
}

json::object score_json(const TextScore& score) {
  return {{"nats_per_token", score.nats_per_token()},
          {"nats_standard_error", score.nats_error()},
          {"perplexity", score.perplexity()},
          {"bits_per_byte", score.bits_per_byte()},
          {"accuracy", score.accuracy()},
          {"accuracy_standard_error", score.accuracy_error()}};
}

json::object comparison_json(const Comparison& comparison) {
  return {{"top1_agreement", comparison.top1_agreement()},
          {"kl_mean", comparison.divergence_mean()},
          {"kl_p99", comparison.divergence_quantile(0.99)},
          {"kl_max", comparison.divergence_quantile(1)},
          {"disagreements", comparison.disagreements()},
          {"tie_margin", comparison.tie()},
          {"ties_share", comparison.ties_share()},
          {"top1_agreement_without_ties", comparison.agreement_without_ties()}};
}

// Of the next tokens that the reference has right, those that the subject has; nothing where it has none.
std::optional<double> kept(const evaluate::TextResult& result) {
  if (!result.reference || result.reference->right == 0) return std::nullopt;
  return share(result.score.right, result.reference->right);
}

json::object text_json(const TextReport& report) {
  const evaluate::TextResult& result = report.result;
  json::object body{{"file", report.file},
                    {"tokens", result.score.tokens},
                    {"bytes", result.score.bytes},
                    {"windows", result.windows},
                    {"window", report.window},
                    {"stride", report.stride},
                    {"score", score_json(result.score)}};
  if (result.reference) {
    body["reference"] = score_json(*result.reference);
    const auto part = kept(result);
    body["accuracy_kept"] = part ? json::value(*part) : nullptr;
  }
  if (result.comparison) body["comparison"] = comparison_json(*result.comparison);
  return body;
}

json::object group_json(const GroupScore& score) {
  json::object body;
  if (!score.group.empty()) body["group"] = score.group;
  if (score.choices > 0) {
    const double plain = share(score.right, score.choices);
    const double normalised = share(score.right_normalised, score.choices);
    body["choices"] = {{"tasks", score.choices},
                       {"accuracy", plain},
                       {"accuracy_standard_error", evaluate::share_error(plain, score.choices)},
                       {"accuracy_normalised", normalised},
                       {"accuracy_normalised_standard_error", evaluate::share_error(normalised, score.choices)}};
  }
  if (score.generated > 0) {
    const double matched = share(score.matched, score.generated);
    body["generated"] = {{"tasks", score.generated},
                         {"exact_match", matched},
                         {"exact_match_standard_error", evaluate::share_error(matched, score.generated)}};
  }
  return body;
}

json::object tasks_json(const TaskResult& result) {
  json::object body = group_json(result.total);
  if (result.groups.empty()) return body;
  json::array groups;
  for (const GroupScore& group : result.groups)
    groups.push_back(group_json(group));
  body["groups"] = std::move(groups);
  return body;
}

// Rows of a name and a column for each model.
class Table {
 public:
  explicit Table(bool two) : two_(two) {}

  void row(std::string_view name, std::string_view first, std::string_view second = {}, std::string_view note = {}) {
    fmt::format_to(std::back_inserter(text_), "  {:<24}{:>22}", name, first);
    if (two_) fmt::format_to(std::back_inserter(text_), "{:>22}", second);
    if (!note.empty()) fmt::format_to(std::back_inserter(text_), "   {}", note);
    text_ += '\n';
  }
  void line(std::string_view text) { text_.append(text).append("\n"); }
  std::string take() && { return std::move(text_); }

 private:
  bool two_;
  std::string text_;
};

std::string percent(double value) {
  return fmt::format("{:.2f} %", 100 * value);
}

std::string with_error(double value, double error) {
  return fmt::format("{:.4f} ± {:.4f}", value, error);
}

// fmt pads by code points' width; "±" is one column.
void text_rows(const TextReport& report, Table& table) {
  const evaluate::TextResult& result = report.result;
  table.line(fmt::format("text {}: {} tokens, {}, in {} windows of {}, {} apart", report.file, result.score.tokens,
                         base::human_bytes(static_cast<double>(result.score.bytes)), result.windows, report.window,
                         report.stride));
  const TextScore& own = result.score;
  const TextScore& other = result.reference ? *result.reference : own;
  table.row("nats a token", with_error(own.nats_per_token(), own.nats_error()),
            with_error(other.nats_per_token(), other.nats_error()));
  table.row("perplexity", fmt::format("{:.4f}", own.perplexity()), fmt::format("{:.4f}", other.perplexity()));
  table.row("bits a byte", fmt::format("{:.4f}", own.bits_per_byte()), fmt::format("{:.4f}", other.bits_per_byte()));
  table.row("next tokens right", percent(own.accuracy()), percent(other.accuracy()),
            result.reference ? fmt::format("{} of them kept", kept(result) ? percent(*kept(result)) : "-") : "");
  if (!result.comparison) return;
  const Comparison& comparison = *result.comparison;
  table.row(
      "same most likely token", percent(comparison.top1_agreement()), "",
      fmt::format("{} without near ties (margins below {} nats, {} of positions)",
                  percent(comparison.agreement_without_ties()), comparison.tie(), percent(comparison.ties_share())));
  table.row("KL divergence, mean", fmt::format("{:.3g} nats", comparison.divergence_mean()));
  table.row("  99th percentile", fmt::format("{:.3g} nats", comparison.divergence_quantile(0.99)));
}

void group_rows(std::string_view name, const GroupScore& own, const GroupScore& other, Table& table) {
  const std::string prefix = name.empty() ? "" : fmt::format("{}: ", name);
  if (own.choices > 0) {
    table.row(prefix + "choices right", percent(share(own.right, own.choices)),
              percent(share(other.right, other.choices)), fmt::format("of {}", own.choices));
    table.row(prefix + "  by length", percent(share(own.right_normalised, own.choices)),
              percent(share(other.right_normalised, other.choices)));
  }
  if (own.generated > 0) {
    table.row(prefix + "exact matches", percent(share(own.matched, own.generated)),
              percent(share(other.matched, other.generated)), fmt::format("of {}", own.generated));
  }
}

void task_rows(const TaskReport& report, Table& table) {
  const TaskResult& own = report.subject;
  const TaskResult& other = report.reference ? *report.reference : own;
  table.line(fmt::format("tasks {}: {}", report.file, own.outcomes.size()));
  for (size_t i = 0; i < own.groups.size(); ++i)
    group_rows(own.groups[i].group, own.groups[i], other.groups[i], table);
  group_rows(own.groups.empty() ? "" : "all", own.total, other.total, table);
}

std::string described(const SubjectFacts& facts) {
  return fmt::format("{}{}, keys and values {}", facts.name, facts.plain ? ", computed in F32" : "", facts.kv_type);
}

}  // namespace

json::object to_json(const EvalReport& report) {
  json::object body{{"device", report.device}, {"subject", facts_json(report.subject)}};
  if (report.reference) body["reference"] = facts_json(*report.reference);
  if (report.text) body["text"] = text_json(*report.text);
  if (report.tasks) {
    json::object tasks{{"file", report.tasks->file}, {"subject", tasks_json(report.tasks->subject)}};
    if (report.tasks->reference) tasks["reference"] = tasks_json(*report.tasks->reference);
    body["tasks"] = std::move(tasks);
  }
  return body;
}

std::string to_table(const EvalReport& report) {
  const bool two = report.reference.has_value();
  Table table(two);
  table.line(fmt::format("{} on {}", described(report.subject), report.device));
  if (two) {
    table.line(fmt::format("against {}", described(*report.reference)));
    table.row("", "model", "against");
  }
  const auto bytes = [](size_t count) { return base::human_bytes(static_cast<double>(count)); };
  table.row("weights in memory", bytes(report.subject.weight_bytes), two ? bytes(report.reference->weight_bytes) : "",
            two && report.reference->weight_bytes > 0
                ? fmt::format("{:+.2f} %", 100 * (share(static_cast<int64_t>(report.subject.weight_bytes),
                                                        static_cast<int64_t>(report.reference->weight_bytes)) -
                                                  1))
                : "");
  table.row("file", bytes(report.subject.file_bytes), two ? bytes(report.reference->file_bytes) : "");
  if (report.text) text_rows(*report.text, table);
  if (report.tasks) task_rows(*report.tasks, table);
  return std::move(table).take();
}

}  // namespace tidemill::cli
