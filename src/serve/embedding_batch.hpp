// Many texts for the engine to embed or to score, a few at a time, so that a batch of thousands neither overflows the
// queue nor keeps others out of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "serve/call.hpp"
#include "serve/generation.hpp"

namespace tidemill::serve {

// Every text is a request of its own to the engine: of a decoder's at most `max_in_flight` at a time. An encoder has up
// to two calls of them, and is given more when one is left, so that a whole call waits while another runs. Destroyed,
// it cancels what runs.
class EmbeddingBatch {
 public:
  // `param` is the parameter of the texts, for errors. `wake` is called from the engine's thread when there is
  // something for advance() to do.
  EmbeddingBatch(engine::Engine& engine, std::vector<engine::Request> requests, std::string param,
                 std::function<void()> wake);
  ~EmbeddingBatch();
  EmbeddingBatch(const EmbeddingBatch&) = delete;
  EmbeddingBatch& operator=(const EmbeddingBatch&) = delete;

  // Takes what has come and submits what there is room for, together. A queue that is full is an error only while none
  // of this batch is in it, since otherwise there will be room.
  base::Result<void> advance();

  bool done() const { return next_ == requests_.size() && running_.empty(); }
  // Of each request, once done: its embedding, or its score.
  const std::vector<std::vector<float>>& embeddings() const { return embeddings_; }
  const std::vector<double>& scores() const { return scores_; }
  const wire::Usage& usage() const { return usage_; }

 private:
  struct Running {
    size_t index;
    std::shared_ptr<engine::Stream> stream;
  };

  // A number of texts, and of their tokens.
  struct Amount {
    int64_t texts = 0;
    int64_t tokens = 0;

    void add(const engine::Request& request);
    void remove(const engine::Request& request);
    bool within(const Amount& most) const { return texts <= most.texts && tokens <= most.tokens; }
  };

  base::Result<void> take_events();
  // How many of those that are next to hand to the engine.
  size_t next_count() const;

  engine::Engine& engine_;
  Amount most_;    // in flight
  Amount refill_;  // more are handed over when so many, or less, are left
  std::vector<engine::Request> requests_;
  std::string param_;
  std::function<void()> wake_;
  std::vector<std::vector<float>> embeddings_;
  std::vector<double> scores_;
  std::vector<Running> running_;
  Amount in_flight_;  // of those
  size_t next_ = 0;
  wire::Usage usage_;
};

// A request to embed `text`, which is the parameter `param`. Errors as prompt_tokens.
base::Result<engine::Request> embedding_request(const Serving& serving, const wire::Prompt& text,
                                                std::string_view param, std::string id);

// What the span of a call that has texts embedded or ranked says of it; `operation` is one of semconv::operation.
void describe_texts(Call& call, const Serving& serving, std::string_view operation, std::string_view wanted_model);

// Has the engine do the requests on the call's behalf, to their end, and notes their usage. `param` as in
// EmbeddingBatch. Null where there is nobody to answer any more: the client has gone, or has been told an error.
boost::asio::awaitable<std::unique_ptr<EmbeddingBatch>> run_batch(Call& call, const Serving& serving,
                                                                  std::vector<engine::Request> requests,
                                                                  std::string_view param);

}  // namespace tidemill::serve
