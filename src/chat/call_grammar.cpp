#include "chat/call_grammar.hpp"

#include <algorithm>

#include "chat/call_reader.hpp"
#include "chat/json_stream.hpp"
#include "chat/spelling.hpp"
#include "grammar/json_schema.hpp"

namespace tidemill::chat {
namespace {

using grammar::Expression;
using Shape = CallSyntax::Shape;
namespace json = base::json;

// A control token of DeepSeek's that stands inside of a tag.
constexpr std::string_view dsml = "｜DSML｜";

bool in_brackets(char byte) {
  return (byte >= 'A' && byte <= 'Z') || byte == '_' || byte == '/';
}

// The length of the tag that `text` begins with: "<|call|>", "</think>", "[ARGS]"; 0 if there is none.
size_t tag_length(std::string_view text) {
  if (text.starts_with(dsml)) return dsml.size();
  if (text.starts_with('<')) {
    const size_t end = text.find('>');
    if (end == std::string_view::npos || text.substr(1, end).find_first_of(" \n=<") < end) return 0;
    const std::string_view tag = text.substr(0, end + 1);
    return tag.find(dsml) == std::string_view::npos ? tag.size() : 0;
  }
  if (!text.starts_with('[')) return 0;
  const size_t end = text.find(']');
  if (end == std::string_view::npos || end < 2) return 0;
  return std::all_of(text.begin() + 1, text.begin() + static_cast<ptrdiff_t>(end), in_brackets) ? end + 1 : 0;
}

base::Error named(base::Error error, const Tool& tool) {
  return std::move(error).wrap(parameters_of(tool));
}

}  // namespace

std::string parameters_of(const Tool& tool) {
  return "the parameters of the tool '" + tool.name + "'";
}

base::Error cannot_write(std::string_view name) {
  return base::Error(base::ErrorCode::unsupported,
                     json::serialize(json::string(name)) + " is no name that this model's tool format can write");
}

Expression CallGrammar::marked(std::string_view text) {
  std::vector<Expression> parts;
  size_t plain = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t tag = tag_length(text.substr(at));
    if (tag == 0) {
      ++at;
      continue;
    }
    if (at > plain) parts.push_back(builder_.literal(text.substr(plain, at - plain)));
    parts.push_back(builder_.special(text.substr(at, tag)));
    at += tag;
    plain = at;
  }
  if (plain < text.size()) parts.push_back(builder_.literal(text.substr(plain)));
  return builder_.sequence(parts);
}

Expression CallGrammar::space(std::string_view text) {
  return text.empty() ? builder_.empty() : builder_.optional(builder_.literal(text));
}

Expression CallGrammar::spelled(std::string_view text) {
  const std::string_view core = trimmed(text);
  if (core.empty()) return space(text);
  const auto before = static_cast<size_t>(core.data() - text.data());
  return builder_.sequence({space(text.substr(0, before)), marked(core), space(text.substr(before + core.size()))});
}

Expression CallGrammar::text_to(std::string_view tag) {
  const std::string_view core = trimmed(tag);
  const std::string trigger(core);
  const auto after = static_cast<size_t>(core.data() - tag.data()) + core.size();
  return builder_.sequence({builder_.text_without(std::span(&trigger, 1)), marked(core), space(tag.substr(after))});
}

base::Result<Expression> CallGrammar::arguments(const Tool& tool, grammar::JsonSchemaOptions options) {
  if (!tool.strict || tool.parameters.is_null()) return grammar::any_json_object(builder_, options);
  json::value schema = tool.parameters;
  if (schema.is_object()) schema.get_object()["type"] = "object";
  options.loose_formats = tool.loosely;
  options.whose = parameters_of(tool) + ": ";
  auto written = grammar::json_schema(builder_, schema, options);
  if (!written) return named(std::move(written).error(), tool);
  return *written;
}

Expression CallGrammar::name_in_json(const Tool& tool) {
  std::string quoted;
  append_quoted(quoted, tool.name);
  return builder_.literal(quoted);
}

base::Result<Expression> CallGrammar::call(const Tool& tool) {
  if (!reads_name(syntax_, tool.name)) return cannot_write(tool.name).wrap("the tools");
  const auto json_text = [&](std::string_view text) { return builder_.literal(text); };
  const Expression blank = builder_.optional(builder_.literal(" "));
  switch (syntax_.shape) {
    case Shape::json_object: {
      TM_TRY(const Expression arguments, this->arguments(tool));
      return builder_.sequence({json_text("{\"" + syntax_.name_key + "\":"), blank, name_in_json(tool), json_text(","),
                                blank, json_text("\"" + syntax_.arguments_key + "\":"), blank, arguments,
                                json_text("}")});
    }
    case Shape::name_as_key: {
      TM_TRY(const Expression arguments, this->arguments(tool));
      return builder_.sequence({json_text("{"), name_in_json(tool), json_text(":"), blank, arguments, json_text("}")});
    }
    case Shape::named_json: {
      TM_TRY(const Expression arguments, this->arguments(tool));
      Expression id = builder_.empty();
      if (syntax_.counted_ids) {
        const grammar::CodePointRange digits[] = {{'0', '9'}};
        id = builder_.sequence({builder_.literal(":"), builder_.repeat(builder_.code_points(digits), 1, 3)});
      } else if (!syntax_.id_open.empty()) {
        const grammar::CodePointRange letters[] = {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}};
        id = builder_.sequence({spelled(syntax_.id_open), builder_.repeat(builder_.code_points(letters), 9, 9)});
      }
      return builder_.sequence(
          {preface(), builder_.literal(syntax_.name_prefix + tool.name), id, spelled(syntax_.name_end), arguments});
    }
    case Shape::parameters: {
      auto arguments = parameters_grammar(builder_, syntax_, *this, tool);
      if (!arguments) return named(std::move(arguments).error(), tool);
      return builder_.sequence({builder_.literal(tool.name), spelled(syntax_.name_end), *arguments});
    }
    case Shape::gemma: {
      const grammar::Notation notation{.end_of_text = syntax_.quote, .quote = syntax_.quote};
      TM_TRY(const Expression arguments, this->arguments(tool, {.notation = notation}));
      return builder_.sequence({builder_.literal(tool.name), arguments});
    }
    case Shape::python: {
      auto arguments = python_grammar(builder_, tool);
      if (!arguments) return named(std::move(arguments).error(), tool);
      return builder_.sequence({builder_.literal(tool.name), builder_.literal("("), *arguments, builder_.literal(")")});
    }
    case Shape::none:
    case Shape::harmony:
      break;
  }
  return builder_.nothing();
}

// A word, as a server's name, and what ends it.
Expression CallGrammar::preface() {
  if (syntax_.preface_end.empty()) return builder_.empty();
  const grammar::CodePointRange letters[] = {{' ', ';'}, {'=', 'z'}};
  return builder_.sequence({builder_.repeat(builder_.code_points(letters), 1, 64), marked(syntax_.preface_end)});
}

base::Result<Expression> CallGrammar::any_call() {
  std::vector<Expression> each;
  for (const Tool& tool : tools_) {
    TM_TRY(const Expression one, call(tool));
    each.push_back(one);
  }
  return builder_.choice(each);
}

Expression CallGrammar::joined(Expression one, bool several) {
  if (!several) return one;
  return builder_.sequence({one, builder_.repeat(builder_.sequence({spelled(syntax_.between), one}), 0, std::nullopt)});
}

base::Result<Expression> CallGrammar::calls(bool several) {
  TM_TRY(Expression one, any_call());
  const Expression open = spelled(syntax_.open);
  const Expression close = spelled(syntax_.close);
  if (syntax_.list) {
    return builder_.sequence(
        {open, space(" "), builder_.literal("["), joined(one, several), builder_.literal("]"), close});
  }
  if (syntax_.bare) {
    return builder_.sequence({builder_.optional(open), joined(one, several), close});
  }
  if (!syntax_.recipient.empty()) {
    // The prompt has written the first opening.
    return builder_.sequence(
        {one, close,
         several ? builder_.repeat(builder_.sequence({open, one, close}), 0, std::nullopt) : builder_.empty()});
  }
  one = builder_.sequence({open, one, close});
  const Expression section_open = spelled(syntax_.section_open);
  const Expression section_close = spelled(syntax_.section_close);
  if (syntax_.section_each) return joined(builder_.sequence({section_open, one, section_close}), several);
  return builder_.sequence({section_open, joined(one, several), section_close});
}

}  // namespace tidemill::chat
