// The official `@anthropic-ai/sdk` client against `tidemill serve` with the built-in model.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { Server } from './server.mjs';

const messages = [{ role: 'user', content: 'def fibonacci(n):\n    """Return the n-th number."""\n' }];
const asked = { model: 'nano-coder', max_tokens: 24, temperature: 0, messages };
const timeout = 300_000;
const prompt_tokens = ({ usage }) => usage.input_tokens + usage.cache_read_input_tokens;

describe('the Anthropic client', { timeout }, () => {
  let server;
  let client;

  before(async () => {
    server = await Server.start();
    client = new Anthropic({ baseURL: server.url, apiKey: 'unused', maxRetries: 0 });
  });
  after(() => server.kill());

  test('gets a message, streamed and whole alike', async () => {
    const whole = await client.messages.create(asked);
    assert.equal(whole.type, 'message');
    assert.equal(whole.role, 'assistant');
    assert.equal(whole.content[0].type, 'text');
    assert.ok(whole.content[0].text.length > 0);
    assert.equal(whole.stop_reason, 'max_tokens');
    assert.equal(whole.usage.output_tokens, 24);

    let text = '';
    const types = [];
    for await (const event of await client.messages.create({ ...asked, stream: true })) {
      types.push(event.type);
      if (event.type === 'content_block_delta') text += event.delta.text;
    }
    assert.equal(text, whole.content[0].text);
    assert.deepEqual(types.slice(0, 3), ['message_start', 'content_block_start', 'content_block_delta']);
    assert.deepEqual(types.slice(-3), ['content_block_stop', 'message_delta', 'message_stop']);
  });

  test("works with the client's stream helper", async () => {
    const pieces = [];
    const stream = client.messages.stream(asked).on('text', (piece) => pieces.push(piece));
    const final = await stream.finalMessage();
    assert.equal(pieces.join(''), final.content[0].text);
    assert.equal(final.stop_reason, 'max_tokens');
    const { usage } = await client.messages.create(asked);
    assert.equal(final.usage.output_tokens, usage.output_tokens);
    const prompt = (u) => u.input_tokens + u.cache_read_input_tokens + u.cache_creation_input_tokens;
    assert.equal(prompt(final.usage), prompt(usage));
  });

  test('gets of a tool call that is cut off what its stream helper makes of the pieces', async () => {
    const input_schema = {
      type: 'object',
      properties: { city: { type: 'string', maxLength: 12 }, days: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 99 }, minItems: 2, maxItems: 4 }, more: { type: 'boolean' } },
      required: ['city', 'days', 'more'],
      additionalProperties: false,
    };
    const call = { ...asked, tools: [{ name: 'find', strict: true, input_schema }], tool_choice: { type: 'any' } };
    const seen = new Set();
    for (let max_tokens = 8; max_tokens <= 80; max_tokens += 3) {
      const whole = await client.messages.create({ ...call, max_tokens });
      const final = await client.messages.stream({ ...call, max_tokens }).finalMessage();
      const inputs = (message) => message.content.filter((block) => block.type === 'tool_use').map((block) => block.input);
      assert.deepEqual(inputs(whole), inputs(final), `${max_tokens} tokens`);
      assert.equal(whole.stop_reason, final.stop_reason);
      seen.add(JSON.stringify(inputs(whole)));
    }
    assert.ok(seen.size >= 3, [...seen].join('\n'));
  });

  // By default the client sends what is new as the continuation of a thread, and all of it where none is kept.
  for (const more of [{}, { thread: false }]) {
    for (const stream of [false, true]) {
      test(`runs tools turn after turn: ${JSON.stringify({ ...more, stream })}`, async () => {
        let runs = 0;
        const paint = betaTool({
          name: 'paint',
          description: 'Paints the wall',
          inputSchema: { type: 'object', properties: { color: { type: 'string', enum: ['red'] } }, required: ['color'], additionalProperties: false },
          run: async ({ color }) => `${(runs += 1)} times ${color}`,
        });
        const runner = client.beta.messages.toolRunner({
          ...asked, ...more, stream, max_tokens: 100, max_iterations: 4, tools: [paint], tool_choice: { type: 'any', disable_parallel_tool_use: true },
        });
        const prompts = [];
        for await (const turn of runner) prompts.push(prompt_tokens(stream ? await turn.finalMessage() : turn));
        assert.equal(prompts.length, 4);
        assert.ok(runs >= 3, `the tool ran ${runs} times`);
        for (let i = 1; i < prompts.length; ++i) assert.ok(prompts[i] > prompts[i - 1], `prompts of ${prompts} tokens`);
      });
    }
  }

  test('goes on with a thread from all that was said', async () => {
    const { messages: opening, ...fields } = asked;
    const thread = client.beta.messages.thread(fields);
    await thread.send(opening[0]);
    const second = await thread.send({ role: 'user', content: 'And now in C.' });
    const third = await thread.stream({ role: 'user', content: 'And in Rust.' }).finalMessage();
    const said = thread.messages;
    assert.equal(said.length, 6);
    for (const [answer, before] of [[second, said.slice(0, 3)], [third, said.slice(0, 5)]]) {
      const whole = await client.messages.create({ ...fields, messages: before });
      assert.equal(answer.content[0].text, whole.content[0].text);
      assert.equal(prompt_tokens(answer), prompt_tokens(whole));
    }
    const lost = client.beta.messages.create({ ...asked, thread: { type: 'continue', previous_message_id: third.id } });
    await assert.rejects(lost, (error) => error instanceof Anthropic.NotFoundError && error.errorCode === 'thread_not_found');
  });

  test('counts the tokens of what the context cannot hold', async () => {
    const long = [{ role: 'user', content: 'word '.repeat(40_000) }];
    const { input_tokens: counted } = await client.messages.countTokens({ model: 'nano-coder', messages: long });
    assert.ok(counted > 40_000);
    await assert.rejects(client.messages.create({ ...asked, messages: long }), new RegExp(`the prompt has ${counted} tokens`));
  });

  test('counts tokens as messages do', async () => {
    const { input_tokens: counted } = await client.messages.countTokens({ model: 'nano-coder', messages });
    const { usage } = await client.messages.create({ ...asked, max_tokens: 1 });
    assert.equal(counted, usage.input_tokens + usage.cache_read_input_tokens);
  });

  test('says what the cache held', async () => {
    const long = { ...asked, max_tokens: 1, system: [{ type: 'text', text: 'x = 1\n'.repeat(200), cache_control: { type: 'ephemeral' } }] };
    await client.messages.create(long);
    const { usage } = await client.messages.create(long);
    assert.ok(usage.cache_read_input_tokens > 0);
    assert.ok(usage.input_tokens > 0);
    for await (const event of await client.messages.create({ ...long, stream: true })) {
      if (event.type !== 'message_start') continue;
      assert.equal(event.message.usage.cache_read_input_tokens, usage.cache_read_input_tokens);
      assert.equal(event.message.usage.input_tokens, usage.input_tokens);
    }
  });

  test('raises errors of the right class', async () => {
    await assert.rejects(client.messages.create({ ...asked, model: 'claude-x' }), (error) => {
      assert.ok(error instanceof Anthropic.NotFoundError);
      assert.equal(error.type, 'not_found_error');
      assert.match(error.message, /nano-coder/);
      assert.ok(error.requestID);
      return true;
    });
    const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'x' } };
    await assert.rejects(client.messages.create({ ...asked, messages: [{ role: 'user', content: [image] }] }), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.match(error.message, /messages\[0\]\.content\[0\]/);
      return true;
    });
    await assert.rejects(client.messages.create({ ...asked, max_tokens: 0 }), Anthropic.BadRequestError);
  });

  test('an aborted stream frees the engine', async () => {
    const stream = client.messages.stream({ ...asked, max_tokens: 3000 });
    await new Promise((resolve) => stream.once('text', resolve));
    stream.abort();
    await assert.rejects(stream.done(), Anthropic.APIUserAbortError);
    await server.until(async () => (await server.metric('vllm:num_requests_running')) === 0);
  });
});

test('a key may come as x-api-key', { timeout }, async () => {
  const server = await Server.start('--server.api-key', 'secret');
  try {
    const client = (apiKey) => new Anthropic({ baseURL: server.url, apiKey, maxRetries: 0 });
    assert.equal((await client('secret').messages.create(asked)).role, 'assistant');
    await assert.rejects(client('guess').messages.create(asked), Anthropic.AuthenticationError);
  } finally {
    await server.kill();
  }
});
