#include "text/gguf_vocabulary.hpp"

#include <cstring>
#include <map>
#include <stdexcept>
#include <variant>

#include "base/file.hpp"

namespace tidemill::test {
namespace {

using Strings = std::vector<std::string>;
using Numbers = std::vector<double>;
using Value = std::variant<double, std::string, Strings, Numbers>;

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string string() { return std::string(take(number<uint64_t>())); }

  Value value(uint32_t type) {
    if (type == 8) return string();
    if (type != 9) return scalar(type);
    const auto element = number<uint32_t>();
    const auto count = number<uint64_t>();
    if (count > bytes_.size()) throw std::runtime_error("GGUF array longer than the file");
    if (element == 8) {
      Strings strings(count);
      for (std::string& one : strings)
        one = string();
      return strings;
    }
    Numbers numbers(count);
    for (double& one : numbers)
      one = scalar(element);
    return numbers;
  }

 private:
  std::string_view take(uint64_t length) {
    if (length > bytes_.size() - at_) throw std::runtime_error("GGUF file ends early");
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }

  double scalar(uint32_t type) {
    switch (type) {
      case 0:
      case 7:
        return number<uint8_t>();
      case 1:
        return number<int8_t>();
      case 2:
        return number<uint16_t>();
      case 3:
        return number<int16_t>();
      case 4:
        return number<uint32_t>();
      case 5:
        return number<int32_t>();
      case 6:
        return number<float>();
      case 10:
        return static_cast<double>(number<uint64_t>());
      case 11:
        return static_cast<double>(number<int64_t>());
      case 12:
        return number<double>();
      default:
        throw std::runtime_error("GGUF value of unknown type");
    }
  }

  std::string_view bytes_;
  size_t at_ = 0;
};

}  // namespace

text::Vocabulary read_gguf_vocabulary(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  if (!file) throw std::runtime_error(file.error().to_string());
  Reader reader({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
  reader.number<uint64_t>();  // magic and version
  reader.number<uint64_t>();  // tensors
  std::map<std::string, Value> values;
  for (auto left = reader.number<uint64_t>(); left > 0; --left) {
    const std::string key = reader.string();
    values.emplace(key, reader.value(reader.number<uint32_t>()));
  }

  const auto text_of = [&](const char* key) {
    return values.contains(key) ? std::get<std::string>(values.at(key)) : std::string();
  };
  auto made = text::Vocabulary::with_defaults(text_of("tokenizer.ggml.model"), text_of("tokenizer.ggml.pre"));
  if (!made) throw std::runtime_error(made.error().to_string());
  text::Vocabulary vocabulary = std::move(made).value();
  vocabulary.adapt_to_model(text_of("general.name"));
  vocabulary.pieces = std::get<Strings>(values.at("tokenizer.ggml.tokens"));
  if (values.contains("tokenizer.ggml.merges"))
    vocabulary.merges = std::get<Strings>(values.at("tokenizer.ggml.merges"));
  if (values.contains("tokenizer.ggml.scores"))
    for (const double score : std::get<Numbers>(values.at("tokenizer.ggml.scores")))
      vocabulary.scores.push_back(static_cast<float>(score));
  for (const double kind : std::get<Numbers>(values.at("tokenizer.ggml.token_type")))
    vocabulary.kinds.push_back(static_cast<text::TokenKind>(kind));

  const auto set = [&](const char* key, auto& field) {
    const std::string full = std::string("tokenizer.ggml.") + key;
    using Field = std::remove_reference_t<decltype(field)>;
    if (!values.contains(full)) return;
    if constexpr (std::is_same_v<Field, bool>)
      field = std::get<double>(values.at(full)) != 0;
    else
      field = static_cast<text::Token>(std::get<double>(values.at(full)));
  };
  if (vocabulary.model == text::Vocabulary::Model::wordpiece) {
    set("cls_token_id", vocabulary.bos);
    set("seperator_token_id", vocabulary.eos);
  }
  set("bos_token_id", vocabulary.bos);
  set("eos_token_id", vocabulary.eos);
  set("eot_token_id", vocabulary.eot);
  set("unknown_token_id", vocabulary.unknown);
  set("padding_token_id", vocabulary.padding);
  set("add_bos_token", vocabulary.add_bos);
  set("add_eos_token", vocabulary.add_eos);
  set("add_space_prefix", vocabulary.add_space_prefix);
  return vocabulary;
}

}  // namespace tidemill::test
