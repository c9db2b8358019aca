// Which tokens a state allows.
#include <algorithm>

#include "grammar/counted_automaton.hpp"
#include "grammar/state_store.hpp"

namespace tidemill::grammar {

using text::Token;

namespace {

constexpr size_t kDense = 2048;       // tokens; more are kept as a mask
constexpr size_t kWideFirst = 40;     // bytes that may come next in states for which loops are worth knowing
constexpr int kMaxWidenDepth = 16;    // how deep counters are looked for
constexpr size_t kMaxWidened = 2000;  // parts of one state
constexpr size_t kMaxExits = 20'000;

// Parts behind which one cannot tell from the bytes alone whether they are over.
bool has_open_end(const Node& part) {
  return part.nullable || part.kind == NodeKind::repeat || part.kind == NodeKind::automaton ||
         part.kind == NodeKind::counted;
}

}  // namespace

void StateStore::begin_walk() {
  ++walk_;
  walk_work_ = 0;
  walk_states_ = 0;
  walk_peak_ = 0;
  walk_peak_depth_ = 0;
}

// Counts a state that the present walk comes to, and what its transitions may cost if all of them are needed. False
// when the walk has gone over a limit.
bool StateStore::visit(uint32_t state) {
  if (states_[state].visited == walk_) return true;
  states_[state].visited = walk_;
  loops(state);
  const Node& node = expression(state);
  walk_work_ += 1 + states_[state].fan;
  walk_peak_ = std::max(walk_peak_, node.weight);
  walk_peak_depth_ = std::max(walk_peak_depth_, node.depth);
  ++walk_states_;
  return walk_work_ <= limits_.max_mask_work && walk_states_ <= limits_.max_mask_states;
}

uint32_t StateStore::loops(uint32_t state) {
  if (states_[state].loops != kUnknown) return states_[state].loops;
  uint32_t groups = 0;
  if (first(state).count() >= kWideFirst) {
    uint32_t others = 0;
    uint64_t fan = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const auto value = static_cast<uint8_t>(byte);
      const uint32_t next = step(state, value);
      if (next != state) others |= TokenIndex::group_of(value);
      if (classes_.member[classes_.class_of[byte]] == byte)
        fan = std::min<uint64_t>(fan + expression(next).weight + expression(state).weight / 16, kUnknown);
    }
    groups = ~others;
    states_[state].fan = static_cast<uint32_t>(fan);
  }
  states_[state].loops = groups;
  return groups;
}

// A step of the present walk: counts what computing it costs, once, whether it is computed now or was before.
uint32_t StateStore::walked_step(uint32_t state, uint8_t byte) {
  const uint32_t next = step(state, byte);
  const uint32_t row = states_[state].row;
  if (next == dead || states_[state].fan > 0 || row == kUnknown) return next;
  uint32_t& charged = charged_[row + classes_.class_of[byte]];
  if (charged != walk_) {
    charged = walk_;
    walk_work_ += 1 + expression(next).weight + expression(state).weight / 16;
  }
  return next;
}

// Finds the tokens below `node` of the trie that `state` allows there, up to a length. False when the walk has gone
// over a limit; single bytes are always found.
bool StateStore::walk(uint32_t root, uint32_t start, Found& found) {
  struct Level {
    uint32_t end;
    uint32_t state;
    uint32_t loops;
  };
  const std::span<const TokenIndex::Node> nodes = index_->nodes();
  const uint32_t end = nodes[root].end;
  std::vector<Level> levels;
  if (!visit(start) && found.longest > 1) return false;
  levels.push_back({end, start, loops(start)});
  for (uint32_t at = root + 1; at < end;) {
    while (levels.back().end <= at)
      levels.pop_back();
    const Level& level = levels.back();
    const TokenIndex::Node& node = nodes[at];
    const uint32_t groups = node.groups | TokenIndex::group_of(node.byte);
    if ((groups & ~level.loops) == 0) {
      const std::span<const Token> all = index_->tokens_below(at);
      found.tokens.insert(found.tokens.end(), all.begin(), all.end());
      at = node.end;
      continue;
    }
    const uint32_t next = walked_step(level.state, node.byte);
    if (next == dead || states_[next].is_heavy) {
      at = node.end;
      continue;
    }
    const bool is_last = levels.size() >= found.longest;
    if (!is_last && !visit(next)) return false;
    const std::span<const Token> own = index_->tokens_of(at);
    found.tokens.insert(found.tokens.end(), own.begin(), own.end());
    if (is_last || node.end == at + 1) {  // nothing below
      at = node.end;
      continue;
    }
    if (found.exits != nullptr && can_end(next)) {
      found.exits->push_back(at);
      if (found.exits->size() > kMaxExits) return false;
    }
    const bool every_node_is_an_exit = found.exits != nullptr && can_end(next);
    levels.push_back({node.end, next, every_node_is_an_exit ? 0 : loops(next)});
    ++at;
  }
  return true;
}

bool StateStore::any_token_below(uint32_t root, uint32_t state) {
  const std::span<const TokenIndex::Node> nodes = index_->nodes();
  std::vector<std::pair<uint32_t, uint32_t>> levels{{nodes[root].end, state}};
  for (uint32_t at = root + 1; at < nodes[root].end;) {
    while (levels.back().first <= at)
      levels.pop_back();
    const uint32_t next = step(levels.back().second, nodes[at].byte);
    if (next == dead || states_[next].is_heavy) {
      at = nodes[at].end;
      continue;
    }
    if (nodes[at].own_tokens > 0) return true;
    levels.emplace_back(nodes[at].end, next);
    ++at;
  }
  return false;
}

// The head of an expression: what comes first up to and including the first part whose end shows; and the rest.
std::pair<NodeIndex, NodeIndex> StateStore::split(NodeIndex node) {
  Expressions& expressions = derivatives_.expressions();
  std::vector<NodeIndex> rest{node};  // what is to come, last first
  std::vector<NodeIndex> head;
  while (!rest.empty()) {
    const NodeIndex part = rest.back();
    rest.pop_back();
    const Node& parts = expressions.at(part);
    if (parts.kind == NodeKind::sequence) {
      rest.push_back(parts.b);
      rest.push_back(parts.a);
      continue;
    }
    head.push_back(part);
    if (!has_open_end(parts)) break;
  }
  NodeIndex front = Expressions::empty;
  for (; !head.empty(); head.pop_back())
    front = expressions.sequence(head.back(), front);
  NodeIndex back = Expressions::empty;
  for (const NodeIndex part : rest)
    back = expressions.sequence(part, back);
  return {front, back};
}

// The same with counters that no token can exhaust set to no bound: a token has at most longest_token() bytes, and each
// repetition takes at least one. `known` has what was widened on the way: parts may be shared many times over.
NodeIndex StateStore::widened(NodeIndex index, int depth, std::unordered_map<NodeIndex, NodeIndex>& known) {
  Expressions& expressions = derivatives_.expressions();
  const Node node = expressions.at(index);
  const auto longest = static_cast<uint32_t>(index_->longest_token());
  if (depth > kMaxWidenDepth || known.size() > kMaxWidened) return index;
  const auto [found, fresh] = known.try_emplace(index, index);
  if (!fresh) return found->second;
  NodeIndex wide = index;
  switch (node.kind) {
    case NodeKind::repeat:
      wide =
          expressions.repeat(node.a, std::min(node.b, longest + 1), node.c > longest ? Expressions::unbounded : node.c);
      break;
    case NodeKind::counted: {
      const std::shared_ptr<const CountedAutomaton> counted = expressions.counted_automata()[node.a];
      const auto count = counted->widened(node.c, longest);
      wide = count ? expressions.counted(counted, node.b, *count) : expressions.automaton(counted->texts(), node.b);
      break;
    }
    case NodeKind::sequence: {
      const NodeIndex head = widened(node.a, depth + 1, known);
      wide = expressions.sequence(head, widened(node.b, depth + 1, known));
      break;
    }
    case NodeKind::choice: {
      if (node.b > 64) break;
      std::vector<NodeIndex> members(expressions.members(index).begin(), expressions.members(index).end());
      for (NodeIndex& member : members)
        member = widened(member, depth + 1, known);
      wide = expressions.choice(members);
      break;
    }
    default:
      break;
  }
  known[index] = wide;
  return wide;
}

uint32_t StateStore::widened_state(uint32_t state) {
  if (states_[state].widened == kUnknown) {
    const auto [head, tail] = split(states_[state].node);
    std::unordered_map<NodeIndex, NodeIndex> known;
    const NodeIndex wide = widened(head, 0, known);
    const uint32_t same = wide == head ? state : state_of(derivatives_.expressions().sequence(wide, tail));
    states_[state].widened = same == dead ? state : same;
  }
  return states_[state].widened;
}

StateStore::Tokens StateStore::packed(std::vector<Token> tokens) const {
  Tokens result;
  if (tokens.size() <= kDense) {
    tokens.shrink_to_fit();
    result.more = std::move(tokens);
    return result;
  }
  auto mask = std::make_shared<TokenMask>(index_->vocabulary_size());
  for (const Token token : tokens)
    mask->set(token);
  result.base = std::move(mask);
  return result;
}

const StateStore::Head& StateStore::head_of(uint32_t state) {
  if (states_[state].head == kUnknown) {
    Head head;
    Found found{{}, &head.exits};
    begin_walk();
    const bool is_within = walk(0, state, found);
    head.tokens = packed(std::move(found.tokens));
    head.tokens.too_large = !is_within;
    head.work = walk_work_;
    head.peak = walk_peak_;
    head.peak_depth = walk_peak_depth_;
    std::vector<uint32_t> around;  // ends of the exits above the present one
    for (const uint32_t exit : head.exits) {
      head.nodes_behind += index_->nodes()[exit].end - exit;
      while (!around.empty() && around.back() <= exit)
        around.pop_back();
      around.push_back(index_->nodes()[exit].end);
      head.nested = std::max(head.nested, around.size());
    }
    token_memory_ += head.exits.size() * 4 + head.tokens.more.size() * 4 + 256 +
                     (head.tokens.base != nullptr ? index_->vocabulary_size() / 8 : 0);
    states_[state].head = static_cast<uint32_t>(heads_.size());
    heads_.push_back(std::move(head));
  }
  return heads_[states_[state].head];
}

// Whether no state on the ways through head and tail can be heavy; the present walk was the tail's. Behind an exit the
// state is a choice of the head's rest with the tail behind it, and of what each exit passed has made of the tail.
bool StateStore::stays_light(const Head& head, uint32_t tail_state) const {
  const Node& tail = expression(tail_state);
  const uint64_t weight =
      uint64_t{head.peak} + tail.weight + (uint64_t{walk_peak_} + tail.weight) * (head.nested + 1) + 8;
  const uint32_t depth = std::max({head.peak_depth, tail.depth, walk_peak_depth_}) + 8;
  return weight <= limits_.max_state_weight && depth <= 2 * grammar_->limits().max_left_depth;
}

// False where the head is of no help.
bool StateStore::tokens_through_head(uint32_t state, Tokens& tokens) {
  const auto [head_node, tail_node] = split(states_[state].node);
  if (tail_node == Expressions::empty || head_node == Expressions::nothing) return false;
  const uint32_t head_state = state_of(head_node);
  const uint32_t tail_state = state_of(tail_node);
  if (head_state == dead || tail_state == dead) return false;
  const Head& head = head_of(head_state);
  if (head.tokens.too_large || head.nodes_behind > index_->nodes().size() / 2) return false;
  tokens = head.tokens;
  Found found;
  begin_walk();
  walk_work_ = head.work;
  const std::vector<uint32_t> exits = head.exits;  // the walk may move heads
  for (const uint32_t exit : exits)
    if (!walk(exit, tail_state, found)) return false;
  if (!stays_light(heads_[states_[head_state].head], tail_state)) return false;
  tokens.more.insert(tokens.more.end(), found.tokens.begin(), found.tokens.end());
  return true;
}

StateStore::Tokens StateStore::compute_tokens(uint32_t state) {
  Tokens tokens;
  if (!tokens_through_head(state, tokens)) {
    // Where all tokens take too much, those of fewer bytes: every text can be written with single ones.
    for (const size_t longest : {SIZE_MAX, size_t{16}, size_t{4}, size_t{1}}) {
      Found found;
      found.longest = longest;
      begin_walk();
      tokens.are_short = longest != SIZE_MAX;
      if (!walk(0, state, found)) continue;
      const bool are_short = tokens.are_short;
      tokens = packed(std::move(found.tokens));
      tokens.are_short = are_short;
      break;
    }
  }
  add_ends_and_specials(state, tokens);
  return tokens;
}

void StateStore::add_ends_and_specials(uint32_t state, Tokens& tokens) {
  if (expression(state).special_first)
    for (uint32_t name = 0; name < special_tokens_.size(); ++name)
      if (after_special(state, name) != dead) tokens.more.push_back(special_tokens_[name]);
  if (can_end(state)) {
    const std::span<const Token> ends = index_->end_tokens();
    tokens.more.insert(tokens.more.end(), ends.begin(), ends.end());
  }
  if (tokens.base == nullptr && tokens.more.empty()) tokens.too_large = true;  // all ways lead over a limit
}

const StateStore::Tokens& StateStore::tokens(uint32_t state) {
  const uint32_t wide = widened_state(state);
  if (states_[wide].tokens == kUnknown) {
    Tokens tokens = compute_tokens(wide);
    tokens.more.shrink_to_fit();
    token_memory_ += tokens.more.size() * 4 + 64 +
                     (tokens.base != nullptr && tokens.base.use_count() == 1 ? index_->vocabulary_size() / 8 : 0);
    states_[wide].tokens = static_cast<uint32_t>(tokens_.size());
    tokens_.push_back(std::move(tokens));
  }
  return tokens_[states_[wide].tokens];
}

// Text that must come is cut into its longest tokens.
std::vector<Token> StateStore::forced(uint32_t state, size_t most) {
  constexpr size_t kMostBytes = 1024;
  std::vector<Token> result;
  const std::span<const TokenIndex::Node> nodes = index_->nodes();
  while (result.size() < most) {
    std::string run;
    std::vector<uint32_t> states{state};  // before each byte of the run, and behind it
    for (; run.size() < kMostBytes; states.push_back(state)) {
      if (can_end(state) || expression(state).special_first || first(state).count() != 1) break;
      const auto byte = static_cast<uint8_t>(first(state)._Find_first());
      const uint32_t next = step(state, byte);
      if (next == dead || states_[next].is_heavy) break;
      run += static_cast<char>(byte);
      state = next;
    }
    for (size_t at = 0; at < run.size();) {
      uint32_t node = 0;
      uint32_t best = 0;
      size_t length = 0;
      size_t best_length = 0;
      while (at + length < run.size()) {
        const uint32_t child = index_->child(node, static_cast<uint8_t>(run[at + length]));
        if (child == 0) break;
        node = child;
        ++length;
        if (nodes[node].own_tokens == 0) continue;
        best = node;
        best_length = length;
      }
      const bool may_go_on = at + length == run.size() && any_token_below(node, states.back());
      if (may_go_on || best == 0 || run.size() >= kMostBytes || result.size() >= most) return result;
      result.push_back(index_->tokens_of(best)[0]);
      at += best_length;
    }
    if (can_end(state) || first(state).any() || !expression(state).special_first) return result;
    uint32_t behind = dead;
    Token only = -1;
    for (uint32_t name = 0; name < special_tokens_.size(); ++name) {
      const uint32_t next = after_special(state, name);
      if (next == dead) continue;
      if (only >= 0) return result;
      only = special_tokens_[name];
      behind = next;
    }
    if (only < 0 || result.size() >= most) return result;
    result.push_back(only);
    state = behind;
  }
  return result;
}

}  // namespace tidemill::grammar
