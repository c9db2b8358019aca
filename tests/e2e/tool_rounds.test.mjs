// A whole round of tool use through Messages and Responses with their official clients: a call, its result, an answer;
// streamed and whole, with thinking and without. The built-in model follows no instructions: that it calls is so by
// tool_choice, and the calls' arguments follow their schema by construction.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import Ajv from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { Server } from './server.mjs';

const timeout = 300_000;
const model = 'nano-coder';
const schema = {
  type: 'object',
  properties: {
    city: { type: 'string', maxLength: 12 },
    unit: { type: 'string', enum: ['celsius', 'fahrenheit'] },
    days: { type: 'integer', minimum: 1, maximum: 14 },
  },
  required: ['city', 'unit', 'days'],
  additionalProperties: false,
};
const follows = new Ajv().compile(schema);
const question = 'def weather(city):\n';
const result = '{"degrees": 21}';

// Prompts end inside of reasoning unless thinking is off, as those of models that always think.
const thinking_template = `{% for m in messages %}<|{{ 'user' if m.role == 'user' or m.role == 'system' else 'assistant' }}|>
{%- if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}
{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|end|>{% endfor %}
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}<|assistant|>{% if enable_thinking is not defined or enable_thinking %}<think>
{% endif %}{% endif %}`;

describe('rounds of tool use', { timeout }, () => {
  let server;
  let anthropic;
  let openai;

  before(async () => {
    server = await Server.start();
    anthropic = new Anthropic({ baseURL: server.url, apiKey: 'unused', maxRetries: 0 });
    openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  after(() => server.kill());

  describe('through Messages', () => {
    const tools = [{ name: 'get_weather', description: 'The weather of a city', input_schema: schema }];
    const asked = {
      model, max_tokens: 300, temperature: 0, tools, tool_choice: { type: 'any', disable_parallel_tool_use: true },
      messages: [{ role: 'user', content: question }],
    };

    for (const strict of [true, false]) {
      test(`a call, its result, an answer (${strict ? 'strict' : 'not strict'})`, async () => {
        const request = { ...asked, tools: [{ ...tools[0], strict }] };
        const call = await anthropic.messages.create(request);
        assert.equal(call.stop_reason, 'tool_use');
        const [block] = call.content;
        assert.equal(block.type, 'tool_use');
        assert.equal(block.name, 'get_weather');
        assert.ok(follows(block.input), JSON.stringify(block.input));

        const messages = [
          ...request.messages,
          { role: 'assistant', content: call.content },
          { role: 'user', content: [{ type: 'tool_result', tool_use_id: block.id, content: result }] },
        ];
        const next = { ...request, messages, tool_choice: { type: 'none' }, max_tokens: 16 };
        const answer = await anthropic.messages.create(next);
        assert.equal(answer.content[0].type, 'text');
        assert.ok(answer.content[0].text.length > 0);
        assert.ok(answer.usage.cache_read_input_tokens > 0, 'the round goes on from what was computed');

        const streamed = await anthropic.messages.stream(next).finalMessage();
        assert.deepEqual(streamed.content, answer.content);
        // A result that answers nothing, and one that failed.
        const stray = [{ type: 'tool_result', tool_use_id: 'toolu_none', content: result }];
        await assert.rejects(anthropic.messages.create({ ...next, messages: [...messages.slice(0, 2), { role: 'user', content: stray }] }),
          Anthropic.BadRequestError);
        const failed = [{ type: 'tool_result', tool_use_id: block.id, is_error: true, content: 'no such city' }];
        const told = await anthropic.messages.create({ ...next, messages: [...messages.slice(0, 2), { role: 'user', content: failed }] });
        assert.equal(told.content[0].type, 'text');
      });
    }

    test('a call streamed in deltas is the whole one', async () => {
      const whole = await anthropic.messages.create(asked);
      const blocks = [];
      let stop;
      for await (const event of await anthropic.messages.create({ ...asked, stream: true })) {
        if (event.type === 'content_block_start') blocks[event.index] = { ...event.content_block, json: '' };
        if (event.type === 'content_block_delta') {
          assert.equal(event.delta.type, 'input_json_delta');
          blocks[event.index].json += event.delta.partial_json;
        }
        if (event.type === 'message_delta') stop = event.delta.stop_reason;
      }
      assert.equal(stop, 'tool_use');
      assert.deepEqual(blocks.map((b) => [b.name, JSON.parse(b.json)]), whole.content.map((b) => [b.name, b.input]));
      const helped = await anthropic.messages.stream(asked).finalMessage();
      assert.deepEqual(helped.content.map((b) => b.input), whole.content.map((b) => b.input));
    });

    test('an answer goes on from where it was begun', async () => {
      const begun = (text, more) =>
        anthropic.messages.create({
          model, max_tokens: 12, temperature: 0, ...more,
          messages: [{ role: 'user', content: question }, { role: 'assistant', content: text }],
        });
      const whole = await anthropic.messages.create({ model, max_tokens: 24, temperature: 0, messages: [{ role: 'user', content: question }] });
      const text = whole.content[0].text;
      const beginning = text.slice(0, text.indexOf('\n') + 1);
      const rest = await begun(beginning);
      assert.ok(!rest.content[0].text.startsWith(beginning));
      const streamed = await anthropic.messages
        .stream({ model, max_tokens: 12, temperature: 0, messages: [{ role: 'user', content: question }, { role: 'assistant', content: beginning }] })
        .finalMessage();
      assert.deepEqual(streamed.content, rest.content);
      await assert.rejects(begun('{', { output_config: { format: { type: 'json_schema', schema: {} } } }), Anthropic.BadRequestError);
    });
  });

  describe('through Responses', () => {
    const tools = [{ type: 'function', name: 'get_weather', description: 'The weather of a city', parameters: schema }];
    const asked = {
      model, max_output_tokens: 300, temperature: 0, tools, input: question, tool_choice: 'required', parallel_tool_calls: false,
    };
    const called = (response) => {
      assert.equal(response.status, 'completed');
      const [call] = response.output.filter((item) => item.type === 'function_call');
      assert.equal(call.name, 'get_weather');
      assert.ok(follows(JSON.parse(call.arguments)), call.arguments);
      return call;
    };

    test('a call, its result, an answer, kept by the server', async () => {
      const first = await openai.responses.create(asked);
      const call = called(first);
      const next = {
        model, max_output_tokens: 16, temperature: 0, tools, tool_choice: 'none', previous_response_id: first.id,
        input: [{ type: 'function_call_output', call_id: call.call_id, output: result }],
      };
      const answer = await openai.responses.create(next);
      assert.ok(answer.output_text.length > 0);
      assert.ok(answer.usage.input_tokens_details.cached_tokens > 0);
      const streamed = await openai.responses.stream(next).finalResponse();
      assert.equal(streamed.output_text, answer.output_text);
      await assert.rejects(openai.responses.create({ ...next, input: [{ type: 'function_call_output', call_id: 'call_none', output: 'x' }] }),
        OpenAI.BadRequestError);
    });

    test('a call, its result, an answer, kept by the client', async () => {
      const first = await openai.responses.create({ ...asked, store: false });
      const call = called(first);
      const input = [
        { role: 'user', content: question }, ...first.output,
        { type: 'function_call_output', call_id: call.call_id, output: result },
      ];
      const answer = await openai.responses.create({ model, max_output_tokens: 16, temperature: 0, tools, tool_choice: 'none', input, store: false });
      assert.ok(answer.output_text.length > 0);
    });

    test('a call streamed in deltas is the whole one', async () => {
      const whole = called(await openai.responses.create(asked));
      let deltas = '';
      let done;
      let final;
      let sequence = 0;
      for await (const event of await openai.responses.create({ ...asked, stream: true })) {
        assert.equal(event.sequence_number, sequence++);
        if (event.type === 'response.function_call_arguments.delta') deltas += event.delta;
        if (event.type === 'response.function_call_arguments.done') done = event.arguments;
        if (event.type === 'response.completed') final = event.response;
      }
      assert.equal(deltas, whole.arguments);
      assert.equal(done, whole.arguments);
      assert.equal(called(final).arguments, whole.arguments);
    });

    test('arguments follow the schema unless strict is false, also where the model may answer in text', async () => {
      const { tools: echoed } = await openai.responses.create({ ...asked, tools: [{ ...tools[0], strict: true }], max_output_tokens: 1 });
      assert.equal(echoed[0].strict, true);
      // What a grammar cannot follow is no error where nobody insists on it. The rest is followed.
      const list = { type: 'array', items: { type: 'boolean' }, maxItems: 2, uniqueItems: true };
      const odd = { type: 'object', properties: { a: list }, required: ['a'], additionalProperties: false };
      const loose = await openai.responses.create({ ...asked, tools: [{ ...tools[0], parameters: odd }] });
      const { a } = JSON.parse(loose.output.find((item) => item.type === 'function_call').arguments);
      assert.ok(a.length <= 2 && a.every((item) => typeof item === 'boolean'), JSON.stringify(a));
      await assert.rejects(openai.responses.create({ ...asked, tools: [{ ...tools[0], parameters: odd, strict: true }] }), OpenAI.BadRequestError);
      const free = await openai.responses.create({ ...asked, tool_choice: 'auto', max_output_tokens: 16 });
      assert.ok(['completed', 'incomplete'].includes(free.status));
    });

    test('only tools that are allowed are called', async () => {
      const others = ['first', 'second'].map((name) => ({ type: 'function', name, parameters: { type: 'object', properties: {} } }));
      for (const seed of ['first', 'get_weather']) {
        const tool_choice = { type: 'allowed_tools', mode: 'required', tools: [{ type: 'function', name: seed }] };
        const { output } = await openai.responses.create({ ...asked, temperature: 1, tools: [...tools, ...others], tool_choice });
        assert.equal(output.at(-1).name, seed);
      }
    });
  });
});

// The built-in model does not stop thinking by itself, so that max_tokens ends it; what it thought goes back with a call.
describe('rounds of tool use with thinking', { timeout }, () => {
  let folder;
  let server;
  let anthropic;
  let openai;

  before(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'tidemill-rounds-'));
    const file = path.join(folder, 'thinks.jinja');
    await writeFile(file, thinking_template);
    server = await Server.start('--chat-template', file);
    anthropic = new Anthropic({ baseURL: server.url, apiKey: 'unused', maxRetries: 0 });
    openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  after(async () => {
    await server.kill();
    await rm(folder, { recursive: true });
  });

  test('through Messages', async () => {
    const tools = [{ name: 'get_weather', input_schema: schema }];
    const asked = { model, max_tokens: 24, temperature: 0, tools, thinking: { type: 'adaptive' }, messages: [{ role: 'user', content: question }] };
    const thought = await anthropic.messages.create(asked);
    assert.equal(thought.stop_reason, 'max_tokens');
    assert.deepEqual(thought.content.map((block) => block.type), ['thinking']);
    assert.ok(thought.content[0].thinking.length > 0 && thought.content[0].signature.length > 0);
    const streamed = await anthropic.messages.stream(asked).finalMessage();
    assert.deepEqual(streamed.content, thought.content);

    // A budget ends what the model does not end by itself, and the call follows.
    const bounded = { ...asked, max_tokens: 300, thinking: { type: 'enabled', budget_tokens: 8 }, tool_choice: { type: 'any', disable_parallel_tool_use: true } };
    const brief = await anthropic.messages.create(bounded);
    assert.deepEqual(brief.content.map((block) => block.type), ['thinking', 'tool_use']);
    assert.ok(thought.content[0].thinking.startsWith(brief.content[0].thinking));
    assert.ok(follows(brief.content[1].input));
    const spent = brief.usage.output_tokens_details.thinking_tokens;
    assert.ok(spent > 4 && spent <= 8, `${spent} tokens of thinking`);
    assert.deepEqual((await anthropic.messages.stream(bounded).finalMessage()).content.map((block) => block.thinking ?? block.input),
      [brief.content[0].thinking, brief.content[1].input]);

    const { thinking, ...plain } = asked;
    const call = await anthropic.messages.create({ ...plain, max_tokens: 300, tool_choice: { type: 'any', disable_parallel_tool_use: true } });
    assert.deepEqual(call.content.map((block) => block.type), ['tool_use'], 'thinking is off where nobody asks for it');
    assert.ok(follows(call.content[0].input));
    const round = (content) => [
      ...asked.messages,
      { role: 'assistant', content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.content[0].id, content: result }] },
    ];
    const messages = round([...thought.content, ...call.content]);
    const answer = await anthropic.messages.create({ ...plain, messages, tool_choice: { type: 'none' } });
    assert.equal(answer.content[0].type, 'text');
    const again = await anthropic.messages.create({ ...asked, messages, tool_choice: { type: 'none' } });
    assert.equal(again.content[0].type, 'thinking');
    const count = async (of) => (await anthropic.messages.countTokens({ model, tools, messages: of })).input_tokens;
    assert.ok((await count(messages)) > (await count(round(call.content))), 'what was thought is in the prompt');
  });

  test('through Chat Completions with a budget', async () => {
    const asked = { model, temperature: 0, max_tokens: 24, messages: [{ role: 'user', content: question }] };
    const free = (await openai.chat.completions.create(asked)).choices[0];
    assert.equal(free.message.content, '');
    for (const thinking_token_budget of [0, 5]) {
      const { choices, usage } = await openai.chat.completions.create({ ...asked, thinking_token_budget });
      assert.ok(choices[0].message.content.length > 0);
      assert.ok(free.message.reasoning_content.startsWith(choices[0].message.reasoning_content ?? ''));
      assert.ok(usage.completion_tokens_details.reasoning_tokens <= thinking_token_budget);
    }
  });

  test('through Responses', async () => {
    const tools = [{ type: 'function', name: 'get_weather', parameters: schema }];
    const asked = { model, max_output_tokens: 24, temperature: 0, tools, input: question };
    const thought = await openai.responses.create(asked);
    assert.equal(thought.status, 'incomplete');
    assert.deepEqual(thought.output.map((item) => item.type), ['reasoning']);
    const { output_tokens, output_tokens_details } = thought.usage;
    assert.ok(output_tokens === 24 && output_tokens_details.reasoning_tokens > 12 && output_tokens_details.reasoning_tokens <= 24);
    const streamed = await openai.responses.stream(asked).finalResponse();
    assert.equal(streamed.output[0].content[0].text, thought.output[0].content[0].text);

    const none = { effort: 'none' };
    const call = await openai.responses.create({ ...asked, reasoning: none, max_output_tokens: 300, tool_choice: 'required', parallel_tool_calls: false });
    assert.deepEqual(call.output.map((item) => item.type), ['function_call']);
    assert.ok(follows(JSON.parse(call.output[0].arguments)));
    const input = [
      { role: 'user', content: question }, ...thought.output, ...call.output,
      { type: 'function_call_output', call_id: call.output[0].call_id, output: result },
    ];
    const answer = await openai.responses.create({ ...asked, input, reasoning: none, tool_choice: 'none' });
    assert.ok(answer.output_text.length > 0);
  });
});

// Formats whose content stands behind something of their own: the answer goes on behind that, and is what the model says
// to the same prompt as text.
describe('answers that have begun, with tools', { timeout }, () => {
  for (const [format, opening] of [['harmony', '<|channel|>final<|message|>'], ['functionary_v3_2', 'all\n'], ['hermes', '']]) {
    test(format, async () => {
      const folder = await mkdtemp(path.join(os.tmpdir(), 'tidemill-begun-'));
      const file = path.join(folder, 'plain.jinja');
      await writeFile(file, '{% for m in messages %}{{ m.content }}{% endfor %}{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{{ "\\n" }}# ');
      const server = await Server.start('--chat-template', file, '--tool-format', format);
      try {
        const anthropic = new Anthropic({ baseURL: server.url, apiKey: 'unused', maxRetries: 0 });
        const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
        const plain = await openai.completions.create({ model, prompt: `${question}get_weather\n# ${opening}def f(`, temperature: 0, max_tokens: 12 });
        for (const strict of [true, false]) {
          const { content, stop_reason } = await anthropic.messages.create({
            model, max_tokens: 12, temperature: 0, tools: [{ name: 'get_weather', input_schema: schema, strict }],
            messages: [{ role: 'user', content: question }, { role: 'assistant', content: 'def f(' }],
          });
          assert.equal(stop_reason, 'max_tokens');
          assert.equal(content[0].text, plain.choices[0].text);
        }
      } finally {
        await server.kill();
        await rm(folder, { recursive: true });
      }
    });
  }
});
