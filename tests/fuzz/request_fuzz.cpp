// Any bytes as the body of a request to each endpoint, and as a stream of server-sent events.
#include <cstdint>
#include <string_view>

#include "wire/openai_request.hpp"
#include "wire/sse.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 6) {
    case 0:
      (void)wire::parse_chat_request(body);
      break;
    case 1:
      (void)wire::parse_completion_request(body);
      break;
    case 2:
      (void)wire::parse_embedding_request(body);
      break;
    case 3:
      (void)wire::parse_tokenize_request(body);
      break;
    case 4:
      (void)wire::parse_detokenize_request(body);
      break;
    default: {
      wire::SseParser parser(1 << 16);
      const size_t cut = body.size() / 2;
      (void)parser.feed(body.substr(0, cut));
      (void)parser.feed(body.substr(cut));
    }
  }
  return 0;
}
