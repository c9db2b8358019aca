// The Model Context Protocol, with its official SDK: `tidemill serve --mcp` as a server, `tidemill chat --mcp` as a client.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Server, environment, program } from './server.mjs';

const timeout = 120_000;
const here = path.dirname(fileURLToPath(import.meta.url));

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

  test('is absent unless asked for', async () => {
    const plain = await Server.start();
    assert.equal((await fetch(`${plain.url}/mcp`, { method: 'POST', body: '{}' })).status, 404);
    await plain.kill();
  });
});

describe('chat --mcp', { timeout }, () => {
  const chat = (command, ...flags) =>
    spawnSync(program, ['chat', '--mcp', command, '--message', 'x', '--json', '--temperature', '0', '-n', '60', ...flags], {
      env: environment(), encoding: 'utf8', timeout,
    });

  test('lets the model call the tools', () => {
    const run = chat(`node '${path.join(here, 'mcp_tools_server.mjs')}'`, '--tool-choice', 'required');
    assert.equal(run.status, 0, run.stderr);
    const said = run.stdout.trim().split('\n').map((line) => JSON.parse(line));
    assert.equal(said[0].finish_reason, 'tool_calls');
    assert.equal(said[0].tool_calls[0].function.name, 'paint');
    const { colour, coats } = said[0].tool_calls[0].function.arguments;
    assert.ok(['red', 'green'].includes(colour) && Number.isInteger(coats));
    assert.ok(said.length >= 2, 'an answer follows the call');
  });

  test('says what is wrong with the server', () => {
    for (const [command, words] of [
      ['exit 3', /has ended|has closed its input/],
      ['echo hello; cat > /dev/null', /no message/],
      ["printf '{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"no\"}}\\n'; cat > /dev/null", /refused initialize: no/],
    ]) {
      const run = chat(command);
      assert.notEqual(run.status, 0);
      assert.match(run.stderr, words);
    }
  });
});
