// `tidemill serve --mcp` with the official SDK of the Model Context Protocol.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { LATEST_PROTOCOL_VERSION, SUPPORTED_PROTOCOL_VERSIONS } from '@modelcontextprotocol/sdk/types.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Server } from './server.mjs';

const timeout = 300_000;

describe('serve --mcp', { timeout }, () => {
  let server;
  let client;

  before(async () => {
    server = await Server.start('--mcp');
    client = new Client({ name: 'test', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`)));
  });
  after(async () => {
    await client.close();
    await server.kill();
  });

  const post = async (body) => {
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
    const response = await fetch(`${server.url}/mcp`, { method: 'POST', headers, body });
    return { status: response.status, body: await response.json() };
  };

  test('lists its tools', async () => {
    const { tools } = await client.listTools();
    assert.deepEqual(tools.map((tool) => tool.name).sort(), ['generate', 'tokenize']);
    await client.ping();
  });

  test('generates as the completions endpoint does', async () => {
    const asked = { prompt: 'import os\n', max_tokens: 12, temperature: 0 };
    const result = await client.callTool({ name: 'generate', arguments: asked });
    const completion = await (
      await fetch(`${server.url}/v1/completions`, { method: 'POST', body: JSON.stringify({ model: 'nano-coder', ...asked }) })
    ).json();
    assert.equal(result.isError, false);
    assert.equal(result.content[0].text, completion.choices[0].text);
    assert.equal(result.structuredContent.completion_tokens, 12);
  });

  test('generates what a schema says', async () => {
    const schema = { type: 'object', properties: { n: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['n'], additionalProperties: false };
    const result = await client.callTool({ name: 'generate', arguments: { message: 'x', schema, max_tokens: 64, seed: 1 } });
    const { n } = JSON.parse(result.content[0].text);
    assert.ok(Number.isInteger(n) && n >= 0 && n <= 9);
  });

  test('tokenizes', async () => {
    const result = await client.callTool({ name: 'tokenize', arguments: { text: 'import os' } });
    assert.equal(result.structuredContent.count, result.structuredContent.tokens.length);
    assert.ok(result.structuredContent.count >= 2);
  });

  test('says what is wrong with a call', async () => {
    const result = await client.callTool({ name: 'generate', arguments: {} });
    assert.equal(result.isError, true);
    assert.match(result.content[0].text, /'prompt'/);
    await assert.rejects(client.callTool({ name: 'other', arguments: {} }), /generate and tokenize/);
  });

  test('answers requests that stand alone, and refuses what is none', async () => {
    const listed = await post('{"jsonrpc":"2.0","id":7,"method":"tools/list"}');
    assert.equal(listed.status, 200);
    assert.equal(listed.body.id, 7);
    assert.equal((await post('{')).body.error.code, -32700);
    assert.equal((await post('[]')).body.error.code, -32600);
    assert.equal((await post('{"jsonrpc":"2.0","id":1,"method":"x"}')).body.error.code, -32601);
  });

  test('speaks a version that the client knows, whatever it asks for', async () => {
    const asked = (protocolVersion) => post(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params: { protocolVersion } }));
    for (const version of ['2026-07-28', 'none', ...SUPPORTED_PROTOCOL_VERSIONS]) {
      assert.ok(SUPPORTED_PROTOCOL_VERSIONS.includes((await asked(version)).body.result.protocolVersion), version);
    }
    assert.equal((await asked('2026-07-28')).body.result.protocolVersion, LATEST_PROTOCOL_VERSION);
  });

  // With its schema it goes on until max_tokens.
  const endless = { prompt: 'x = ', max_tokens: 3000, seed: 1, schema: { type: 'array', items: { type: 'integer' }, minItems: 5000 } };

  test('a call that is given up ends, and no other', async () => {
    const other = new Client({ name: 'other', version: '1.0.0' });
    await other.connect(new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`)));
    const before = await server.metric('vllm:generation_tokens_total');
    const controller = new AbortController();
    const call = client.callTool({ name: 'generate', arguments: endless }, undefined, { signal: controller.signal });
    await server.until(async () => (await server.metric('tidemill_requests_running')) === 1);
    const theirs = other.callTool({ name: 'generate', arguments: { ...endless, max_tokens: 100 } });
    controller.abort('enough');
    await assert.rejects(call, /enough/);
    assert.equal((await theirs).structuredContent.completion_tokens, 100);
    await server.until(async () => (await server.metric('tidemill_requests_running')) === 0);
    assert.ok((await server.metric('vllm:generation_tokens_total')) - before < 3000);
    await other.close();
  });

  test('is absent unless asked for', async () => {
    const plain = await Server.start();
    assert.equal((await fetch(`${plain.url}/mcp`, { method: 'POST', body: '{}' })).status, 404);
    await plain.kill();
  });
});

// Prompts end inside of reasoning, as those of models that always think; the built-in model does not end it by itself.
describe('serve --mcp with a model that reasons', { timeout }, () => {
  let folder;
  let server;
  let client;

  before(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'tidemill-mcp-'));
    const file = path.join(folder, 'thinks.jinja');
    await writeFile(file, '{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}');
    server = await Server.start('--mcp', '--chat-template', file);
    client = new Client({ name: 'test', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(new URL(`${server.url}/mcp`)));
  });
  after(async () => {
    await client.close();
    await server.kill();
    await rm(folder, { recursive: true });
  });

  const generate = (more) => client.callTool({ name: 'generate', arguments: { message: 'import os', max_tokens: 24, temperature: 0, ...more } });

  test('gives the reasoning a place of its own, and says where there is no answer', async () => {
    const { content, structuredContent, isError } = await generate({});
    assert.equal(isError, false);
    assert.equal(structuredContent.text, '');
    assert.equal(structuredContent.finish_reason, 'length');
    assert.ok(structuredContent.reasoning_content.length > 0);
    assert.equal(structuredContent.reasoning_tokens, 24);
    assert.match(content[0].text, /no answer: 24 tokens went to reasoning.*length/);
  });

  test('ends the reasoning where its budget does', async () => {
    const whole = (await generate({})).structuredContent.reasoning_content;
    const brief = await generate({ thinking_token_budget: 8 });
    assert.ok(whole.startsWith(brief.structuredContent.reasoning_content));
    assert.ok(brief.structuredContent.reasoning_tokens > 0 && brief.structuredContent.reasoning_tokens <= 8);
    assert.ok(brief.structuredContent.text.length > 0);
    assert.equal(brief.content[0].text, brief.structuredContent.text);
    const off = await generate({ thinking_token_budget: 0 });
    assert.equal(off.structuredContent.reasoning_content, undefined);
    assert.ok(off.content[0].text.length > 0);
  });

  test('refuses what goes with a message beside a prompt', async () => {
    for (const more of [{ system: 'x' }, { thinking_token_budget: 1 }]) {
      const refused = await client.callTool({ name: 'generate', arguments: { prompt: 'x', ...more } });
      assert.equal(refused.isError, true);
      assert.match(refused.content[0].text, new RegExp(Object.keys(more)[0]));
    }
  });
});
