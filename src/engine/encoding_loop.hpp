// What the engine's thread does for an encoder: whole texts, as many in one call as it takes, and between calls the
// mail. Nothing of a text outlives its call, so that there are no blocks, no prefixes and nobody is set back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "engine/engine.hpp"
#include "engine/job.hpp"
#include "engine/mailbox.hpp"
#include "engine/telemetry.hpp"
#include "model/encoder.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::engine {

// As EngineLoop. Only stats() and call_size() may be called from other threads.
class EncodingLoop {
 public:
  struct Parts {
    model::Encoder& encoder;
    const text::Tokenizer& tokenizer;
    const base::Clock& clock;
  };
  EncodingLoop(Parts parts, const EngineOptions& options, Mailbox& mailbox, Telemetry& telemetry);

  // Until the mailbox is closed; then ends what is left with an error.
  void run();

  // See Engine. There are no books, and no prefixes: `unsupported`.
  base::Result<void> audit() const { return {}; }
  base::Result<int64_t> save_prefixes(const std::filesystem::path& path, std::string_view identity) const;
  base::Result<int64_t> restore_prefixes(const std::filesystem::path& path, std::string_view identity);

  // Ends all requests that have arrived. On the engine's thread.
  void fail_all(const base::Error& error);

  EngineStats stats() const;
  // See Engine.
  std::optional<CallSize> call_size() const { return CallSize{.texts = most_texts_, .tokens = most_rows_}; }

 private:
  void receive(Mailbox::Letters letters);
  void step();
  // Takes the next texts from those that wait, in the order of their rank: as many as go into one call.
  void choose();
  void place(const Job& job);
  void finish(Job& job, tensor::ConstMatrix hidden);
  void finish_scored(Job& job, float score);
  void end_whole(Job& job, Event last);
  void end(Job& job, Event last);
  void fail(Job& job, base::Error error);
  void update_stats();

  model::Encoder& encoder_;
  const double priority_seconds_;
  const int64_t most_rows_;   // of one call
  const int64_t most_texts_;  // likewise
  Mailbox& mailbox_;
  Telemetry& telemetry_;

  std::map<Rank, std::unique_ptr<Job>> waiting_;
  std::map<uint64_t, Rank> ranks_;             // of those that wait, by number
  std::vector<std::unique_ptr<Job>> running_;  // in the call at hand
  std::vector<Token> tokens_;                  // of that call, as model::Texts has them
  std::vector<int32_t> types_;
  std::vector<int32_t> begins_;

  EngineStats current_;
  mutable std::mutex stats_mutex_;
  EngineStats published_;
};

}  // namespace tidemill::engine
