// The log of choices and of what came of them, as JSON lines, and back from them to what policies are evaluated on.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "rollout/bandit.hpp"

namespace tidemill::rollout {

// One line (without its end) for a decision:
//   {"v":1,"decision":ID,"time":SECONDS,"features":[...],"model":NAME,"propensities":{NAME:P,...},"allowed":[NAME,...]}
// and one for each thing that is heard of its outcome, later and in any order, whatever is known then:
//   {"v":1,"outcome":ID,"quality":Q}   {"v":1,"outcome":ID,"cost":MONEY,"seconds":S}
std::string decision_line(std::string_view id, const Decision& decision, const BanditOptions& options,
                          base::WallTime time);

struct OutcomeNews {
  std::optional<double> quality = {};  // 0 to 1
  std::optional<double> cost = {};     // money
  std::optional<double> seconds = {};
};
std::string outcome_line(std::string_view id, const OutcomeNews& news);

// One choice and its reward: what offline evaluation wants.
struct LoggedChoice {
  Features features{};
  size_t model = 0;  // an index into the log's models
  double propensity = 1;
  double reward = 0;
};

struct ReadLog {
  std::vector<LoggedChoice> choices;  // in the order of their decisions
  int64_t incomplete = 0;             // decisions of whose outcome too little is known
  int64_t unknown = 0;                // outcomes without a decision
};

// Reads a log of any number of lines. `models`: the names that indices stand for; decisions for others are an error.
// Rewards are `trade`'s, of decisions whose quality, cost and seconds are all known; of several news about one quantity
// the last counts. Errors: invalid_argument, with the line's number; unsupported for another version.
base::Result<ReadLog> read_log(std::string_view lines, const std::vector<std::string>& models, const Trade& trade);

}  // namespace tidemill::rollout
