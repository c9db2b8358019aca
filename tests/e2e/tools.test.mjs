// Tools and structured output with the official `openai` client. The built-in model follows no instructions, so that
// what is right here is so by construction: a schema or tool_choice leaves it no other way.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { Server } from './server.mjs';

const timeout = 300_000;
const messages = [{ role: 'user', content: 'def weather(city):\n' }];
const model = 'nano-coder';

const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather of a city',
    strict: true,
    parameters: {
      type: 'object',
      properties: {
        city: { type: 'string', maxLength: 12 },
        unit: { type: 'string', enum: ['celsius', 'fahrenheit'] },
        days: { type: 'integer', minimum: 1, maximum: 14 },
      },
      required: ['city', 'unit', 'days'],
      additionalProperties: false,
    },
  },
};
const stop = {
  type: 'function',
  function: {
    name: 'stop_all',
    strict: true,
    parameters: { type: 'object', properties: {}, additionalProperties: false },
  },
};
const tools = [weather, stop];
const schemas = new Map(tools.map((tool) => [tool.function.name, tool.function.parameters]));
const ajv = new Ajv();

function check(call) {
  assert.equal(call.type, 'function');
  assert.match(call.id, /^call_/);
  const schema = schemas.get(call.function.name);
  assert.ok(schema, `a tool that was not offered: ${call.function.name}`);
  const valid = ajv.compile(schema)(JSON.parse(call.function.arguments));
  assert.ok(valid, `${call.function.arguments} against ${JSON.stringify(schema)}`);
}

describe('tools', { timeout }, () => {
  let server;
  let client;
  const ask = (more) =>
    client.chat.completions.create({ model, messages, tools, max_tokens: 400, ...more });

  before(async () => {
    server = await Server.start();
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  after(() => server.kill());

  test('calls the one that is named', async () => {
    for (const seed of [1, 2, 3]) {
      const tool_choice = { type: 'function', function: { name: 'get_weather' } };
      const { choices } = await ask({ tool_choice, parallel_tool_calls: false, seed });
      assert.equal(choices[0].finish_reason, 'tool_calls');
      assert.equal(choices[0].message.content, null);
      assert.equal(choices[0].message.tool_calls.length, 1);
      assert.equal(choices[0].message.tool_calls[0].function.name, 'get_weather');
      check(choices[0].message.tool_calls[0]);
    }
  });

  test('calls one where a call is required', async () => {
    const { choices } = await ask({ tool_choice: 'required', parallel_tool_calls: false, n: 3, seed: 5 });
    assert.equal(choices.length, 3);
    for (const choice of choices) {
      assert.equal(choice.finish_reason, 'tool_calls');
      choice.message.tool_calls.forEach(check);
    }
  });

  test('streams what it gives whole', async () => {
    const asked = { tool_choice: 'required', parallel_tool_calls: false, seed: 11, temperature: 0 };
    const whole = (await ask(asked)).choices[0].message.tool_calls;
    const calls = [];
    let finish;
    for await (const chunk of await ask({ ...asked, stream: true })) {
      finish = chunk.choices[0]?.finish_reason ?? finish;
      for (const delta of chunk.choices[0]?.delta.tool_calls ?? []) {
        if (delta.id) {
          assert.equal(delta.index, calls.length);
          calls.push({ name: delta.function.name, arguments: '' });
        }
        calls[delta.index].arguments += delta.function.arguments;
      }
    }
    assert.equal(finish, 'tool_calls');
    assert.deepEqual(calls, whole.map((call) => ({ name: call.function.name, arguments: call.function.arguments })));
  });

  test("works with the client's stream helper", async () => {
    const stream = client.chat.completions.stream({
      model, messages, tools, tool_choice: 'required', parallel_tool_calls: false, max_tokens: 400, seed: 4,
    });
    const final = await stream.finalChatCompletion();
    final.choices[0].message.tool_calls.forEach(check);
  });

  test('takes the round trip of a call and its result', async () => {
    const first = (await ask({ tool_choice: 'required', parallel_tool_calls: false, seed: 2 })).choices[0].message;
    const conversation = [
      ...messages,
      first,
      ...first.tool_calls.map((call) => ({ role: 'tool', tool_call_id: call.id, content: '{"degrees": 21}' })),
    ];
    const second = await client.chat.completions.create({ model, messages: conversation, tools, max_tokens: 8 });
    assert.ok(second.usage.prompt_tokens > 20);
    assert.ok(second.choices[0].message);
  });

  test('never calls where it must not', async () => {
    const { choices } = await ask({ tool_choice: 'none', max_tokens: 32 });
    assert.equal(choices[0].message.tool_calls, undefined);
    assert.notEqual(choices[0].finish_reason, 'tool_calls');
  });

  test('takes functions, the older word for tools', async () => {
    const functions = tools.map((tool) => tool.function);
    const asked = { model, messages, functions, function_call: { name: 'get_weather' }, max_tokens: 400, temperature: 0 };
    const [choice] = (await client.chat.completions.create(asked)).choices;
    assert.equal(choice.finish_reason, 'function_call');
    assert.equal(choice.message.content, null);
    assert.equal(choice.message.tool_calls, undefined);
    const call = choice.message.function_call;
    check({ type: 'function', id: 'call_', function: call });

    const streamed = { name: '', arguments: '' };
    let finish;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      finish = chunk.choices[0].finish_reason ?? finish;
      assert.equal(chunk.choices[0].delta.tool_calls, undefined);
      streamed.name += chunk.choices[0].delta.function_call?.name ?? '';
      streamed.arguments += chunk.choices[0].delta.function_call?.arguments ?? '';
    }
    assert.equal(finish, 'function_call');
    assert.deepEqual(streamed, call);
    const helped = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(helped.choices[0].message.function_call.arguments, call.arguments);

    const second = await client.chat.completions.create({
      model, functions, function_call: 'none', max_tokens: 8,
      messages: [...messages, choice.message, { role: 'function', name: call.name, content: '{"degrees": 21}' }],
    });
    assert.notEqual(second.choices[0].finish_reason, 'function_call');
    assert.equal(second.choices[0].message.function_call, undefined);
    assert.ok(second.usage.prompt_tokens > 20);
    await assert.rejects(client.chat.completions.create({ ...asked, tools }), (e) => e.status === 400 && e.param === 'functions');
  });

  test('shows nothing of a call that a limit cuts off before it begins', async () => {
    for (let max_tokens = 1; max_tokens <= 30; ++max_tokens) {
      const { choices } = await ask({ tool_choice: 'required', parallel_tool_calls: false, temperature: 0, max_tokens });
      assert.equal(choices[0].finish_reason, 'length');
      assert.equal(choices[0].message.content ?? '', '');
    }
  });

  test('lets formats pass that it does not know, unless the tool is strict', async () => {
    const paint = (strict) => ({
      type: 'function',
      function: {
        name: 'paint',
        strict,
        parameters: {
          type: 'object',
          properties: { color: { type: 'string', format: 'color', maxLength: 8 }, coats: { type: 'integer', minimum: 2, maximum: 3 } },
          required: ['color', 'coats'],
          additionalProperties: false,
        },
      },
    });
    const asked = { tool_choice: 'required', parallel_tool_calls: false, seed: 2 };
    const { choices } = await ask({ ...asked, tools: [paint(false)] });
    const painted = JSON.parse(choices[0].message.tool_calls[0].function.arguments);
    assert.deepEqual(Object.keys(painted), ['color', 'coats']);
    assert.ok([...painted.color].length <= 8 && [2, 3].includes(painted.coats), JSON.stringify(painted));
    await ask({ tools: [paint(false)], max_tokens: 1 });
    await assert.rejects(ask({ ...asked, tools: [paint(true)] }), (e) => {
      assert.equal(e.status, 400);
      assert.equal(e.code, 'unsupported');
      assert.equal(e.param, 'tools');
      assert.match(e.message, /'paint'.*#\/properties\/color\/format.*"color"/);
      return true;
    });
  });

  test('names what is wrong with tools', async () => {
    const refused = (more, param) =>
      assert.rejects(ask(more), (e) => e.status === 400 && e.param === param && e.message.length > 20);
    await refused({ tools: [weather, weather] }, 'tools');
    await refused({ tool_choice: { type: 'function', function: { name: 'other' } } }, 'tool_choice');
    await refused({ tools: undefined, tool_choice: 'required' }, 'tool_choice');
    const odd = { type: 'object', properties: { a: { if: { type: 'string' }, then: { minLength: 2 } } }, required: ['a'] };
    await refused(
      { tools: [{ type: 'function', function: { name: 'odd', strict: true, parameters: odd } }], tool_choice: 'required' },
      'tools',
    );
  });
});

describe('structured output', { timeout }, () => {
  let server;
  let client;
  const ask = (more) => client.chat.completions.create({ model, messages, max_tokens: 600, ...more });
  const json_schema = (schema) => ({ type: 'json_schema', json_schema: { name: 'form', strict: true, schema } });

  before(async () => {
    server = await Server.start();
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  after(() => server.kill());

  test('follows a schema, at any temperature', async () => {
    const schema = {
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1, maxLength: 16 },
        kind: { enum: ['a', 'b', null] },
        scores: { type: 'array', items: { type: 'number', minimum: 0, maximum: 1 }, maxItems: 3 },
        next: { anyOf: [{ $ref: '#/$defs/leaf' }, { type: 'null' }] },
      },
      required: ['name', 'kind', 'scores', 'next'],
      additionalProperties: false,
      $defs: {
        leaf: {
          type: 'object',
          properties: { id: { type: 'string', pattern: '^[a-z]{2}-[0-9]{3}$' } },
          required: ['id'],
          additionalProperties: false,
        },
      },
    };
    const valid = ajv.compile(schema);
    for (const temperature of [0, 1, 2]) {
      const { choices } = await ask({ response_format: json_schema(schema), temperature, n: 4, seed: 3 });
      for (const choice of choices) {
        assert.equal(choice.finish_reason, 'stop');
        assert.ok(valid(JSON.parse(choice.message.content)), choice.message.content);
      }
    }
  });

  test("parses with the client's zod helper", async () => {
    const Event = z.object({ day: z.enum(['mon', 'tue']), count: z.number().int().min(0).max(9), tags: z.array(z.boolean()).max(2) });
    const completion = await client.chat.completions.parse({
      model, messages, max_tokens: 200, response_format: zodResponseFormat(Event, 'event'), seed: 8,
    });
    assert.ok(Event.safeParse(completion.choices[0].message.parsed).success);
  });

  test('gives the same tokens with probabilities and without', async () => {
    const asked = { response_format: json_schema({ enum: ['alpha beta', 'gamma delta'] }), temperature: 0 };
    const plain = (await ask(asked)).choices[0];
    const shown = (await ask({ ...asked, logprobs: true })).choices[0];
    assert.equal(shown.message.content, plain.message.content);
    assert.equal(shown.logprobs.content.map((t) => t.token).join(''), plain.message.content);
  });

  test('keeps to a regular expression, a choice and a grammar', async () => {
    const content = async (more) => (await ask({ seed: 6, ...more })).choices[0].message.content;
    assert.match(await content({ guided_regex: '(19|20)[0-9]{2}-(0[1-9]|1[0-2])' }), /^(19|20)\d\d-(0[1-9]|1[0-2])$/);
    assert.ok(['yes', 'no', 'perhaps'].includes(await content({ guided_choice: ['yes', 'no', 'perhaps'] })));
    assert.match(await content({ grammar: 'root ::= "<" word ">"\nword ::= [a-c]{2,5}' }), /^<[a-c]{2,5}>$/);
    const completion = await client.completions.create({ model, prompt: 'x = ', max_tokens: 40, guided_regex: '[0-9]{4}' });
    assert.match(completion.choices[0].text, /^\d{4}$/);
  });

  test('gives some JSON object where only that is asked', async () => {
    const { choices } = await ask({ response_format: { type: 'json_object' }, seed: 1, max_tokens: 60 });
    if (choices[0].finish_reason === 'stop') assert.equal(typeof JSON.parse(choices[0].message.content), 'object');
    assert.equal(choices[0].message.content[0], '{');
  });

  test('takes one of fifty thousand values', async () => {
    const values = Array.from({ length: 50_000 }, (_, i) => `${(i * 7919) % 50_000}-${i}`);
    const schema = { type: 'object', properties: { key: { enum: values } }, required: ['key'], additionalProperties: false };
    for (const seed of [1, 2]) {
      const { choices } = await ask({ response_format: json_schema(schema), seed });
      assert.ok(values.includes(JSON.parse(choices[0].message.content).key), choices[0].message.content);
    }
    assert.ok(values.slice(1).includes((await ask({ guided_choice: values.slice(1), seed: 3 })).choices[0].message.content));
  });

  test('says which limit a schema is over, where, and what to do', async () => {
    const over = (schema, ...parts) =>
      assert.rejects(ask({ response_format: json_schema(schema) }), (e) => {
        assert.equal(e.status, 400);
        assert.equal(e.code, 'unsupported');
        assert.equal(e.param, 'response_format.json_schema.schema');
        for (const part of parts) assert.ok(e.message.includes(part), e.message);
        return true;
      });
    const property = (schema) => ({ type: 'object', properties: { a: schema }, required: ['a'] });
    await over(property({ type: 'string', minLength: 200_000 }), '#/properties/a', '100000', 'smaller bound');
    await over(property({ enum: Array.from({ length: 150_000 }, (_, i) => (i * 2654435761 % 4294967296).toString(2)) }),
      '#/properties/a', '200000 parts', 'ask for less');
    await over(property({ type: 'string', pattern: '^(?:ab|b)*a[ab]{20}$', maxLength: 90_000 }), '#/properties/a', '20000 states', 'simpler patterns');
    let nested = {};
    for (let i = 0; i < 40; ++i) nested = property(nested);
    await assert.rejects(ask({ response_format: json_schema(nested) }), (e) => e.status === 400 && e.message.includes('64 levels'));
  });

  test('names the place in a schema that it cannot follow', async () => {
    const refused = (schema) =>
      assert.rejects(ask({ response_format: json_schema(schema) }), (e) => {
        assert.equal(e.status, 400);
        assert.equal(e.param, 'response_format.json_schema.schema');
        assert.match(e.message, /\/properties\/a/);
        return true;
      });
    await refused({ type: 'object', properties: { a: { if: { type: 'string' }, then: { minLength: 2 } } } });
    await refused({ type: 'object', properties: { a: { $ref: '#/$defs/missing' } } });
    await refused({ type: 'object', properties: { a: { type: 'string', pattern: '(' } } });
  });
});
