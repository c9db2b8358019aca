// `tidemill chat --mcp` with servers that do as they should, and with those that do not.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { program } from './server.mjs';

const timeout = 300_000;
const here = path.dirname(fileURLToPath(import.meta.url));
const odd = (what) => `node '${path.join(here, 'mcp_odd_server.mjs')}' '${what}'`;
const always = ['--temperature', '0', '--tool-choice', 'required'];

function chat(command, ...flags) {
  const run = spawnSync(program, ['chat', '--mcp', command, '--message', 'x', '--json', '--temperature', '0', ...flags],
    { encoding: 'utf8', timeout });
  return { ...run, said: run.stdout.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line)) };
}

// A chat that is written to and interrupted while it runs. `text` is all that it has said.
class Chat {
  constructor(command, args) {
    this.text = '';
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.exited = once(this.child, 'exit');
    this.ended = once(this.child, 'close');
    for (const stream of [this.child.stdout, this.child.stderr]) stream.setEncoding('utf8').on('data', (chunk) => { this.text += chunk; });
  }

  static start(...args) {
    return new Chat(program, ['chat', ...args]);
  }

  // Returns when `pattern` matches `times` times; the test's timeout bounds it.
  async says(pattern, times = 1) {
    while ((this.text.match(new RegExp(pattern, 'g')) ?? []).length < times) {
      assert.equal(this.child.exitCode, null, `it ended and had not said ${pattern}:\n${this.text}`);
      await new Promise(setImmediate);
    }
  }

  async code() {
    const [code] = await this.exited;
    await this.ended;
    return code;
  }
}

describe('chat --mcp', { timeout }, () => {
  test('lets the model call the tools', () => {
    const run = chat(`node '${path.join(here, 'mcp_tools_server.mjs')}'`, '--tool-choice', 'required', '-n', '60');
    assert.equal(run.status, 0, run.stderr);
    assert.ok(['tool_calls', 'length'].includes(run.said[0].finish_reason), 'the model may call on until the limit');
    assert.equal(run.said[0].tool_calls[0].function.name, 'paint');
    const { colour, coats } = JSON.parse(run.said[0].tool_calls[0].function.arguments);
    assert.ok(['red', 'green'].includes(colour) && Number.isInteger(coats));
    assert.ok(run.said.length >= 2, 'an answer follows the call');
  });

  test('says what is wrong with the server', () => {
    for (const [command, words] of [
      ['exit 3', /has ended|has closed its input/],
      ['echo hello; cat > /dev/null', /no message/],
      ["printf '{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"no\"}}\\n'; cat > /dev/null", /refused initialize: no/],
      [odd('of another version'), /1990-01-01.*2025-11-25/],
      [odd('of no version'), /protocolVersion/],
      [odd('of many pages'), /pages/],
    ]) {
      const run = chat(command);
      assert.equal(run.status, 1, run.stderr);
      assert.match(run.stderr, words);
    }
    const none = chat(odd('no tools'), '--tool-choice', 'required');
    assert.equal(none.status, 1);
    assert.match(none.stderr, /has none/);
  });

  test('leaves out a tool that cannot be told, and says so', () => {
    const run = chat(odd('bad tools'), '--tool-choice', 'required', '-n', '60');
    assert.equal(run.status, 0, run.stderr);
    const left = [/tools\[0\]/, /'impossible' is left out/, /'broken' is left out/, /two tools 'paint'/, /tools\[5\].name' is empty/, /red' is left out/];
    for (const words of left) assert.match(run.stderr, words);
    const own = run.stderr.split('\n').filter((line) => line.startsWith('tidemill: '));
    for (const line of own) assert.ok(!line.includes('\u001b'), `what a server says reaches the terminal as it is: ${line}`);
    assert.equal(run.said[0].tool_calls[0].function.name, 'paint');
    assert.ok(run.said.length >= 2);
  });

  test('says that a limit has cut a call, which is not made', () => {
    let cut = 0;
    for (let tokens = 4; tokens <= 32; tokens += 4) {
      const run = chat(odd('plain'), '--tool-choice', 'required', '-n', String(tokens));
      assert.equal(run.status, 0, run.stderr);
      for (const { tool_calls } of run.said) for (const call of tool_calls ?? []) assert.equal(typeof call.function.arguments, 'string');
      if (run.stderr.includes('"tools/call"')) break;
      assert.equal(run.said.length, 1);
      assert.equal(run.said[0].finish_reason, 'length');
      cut += run.said[0].tool_calls?.length ?? 0;
    }
    assert.ok(cut > 0, 'no limit was within a call');
  });

  test('cuts a result that the context has no room for', () => {
    const run = chat(odd('says much'), '--tool-choice', 'required', '-n', '60');
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stderr, /"tools\/call"/);
    assert.ok(run.said.length >= 2, 'an answer follows the call');
  });

  test('ends a call that hangs when it is interrupted, and tells the server', async () => {
    for (const what of ['hangs', 'floods']) {
      const run = Chat.start('--mcp', odd(what), '--message', 'x', ...always);
      await run.says('"tools/call"');
      run.child.kill('SIGINT');
      assert.equal(await run.code(), 130, run.text);
      const id = JSON.parse(run.text.split('\n').find((line) => line.includes('"tools/call"'))).id;
      if (what === 'hangs') assert.match(run.text, new RegExp(`notifications/cancelled.*"requestId":${id}`));
    }
  });

  test('leaves nothing of a server that is interrupted while it starts', async () => {
    const run = Chat.start('--mcp', 'sleep 600 & echo "sleeper $!." >&2; wait', '--message', 'x');
    await run.says('sleeper \\d+\\.');
    const [, sleeper] = run.text.match(/sleeper (\d+)\./);
    const runs = () => {
      try {
        return !/\) Z /.test(readFileSync(`/proc/${sleeper}/stat`, 'utf8'));
      } catch {
        return false;
      }
    };
    assert.ok(runs());
    run.child.kill('SIGINT');
    assert.equal(await run.code(), 130, run.text);
    while (runs()) await new Promise(setImmediate);
  });

  test('goes on at the prompt after a call that was interrupted, and ends there in an orderly way', async () => {
    const quoted = [program, 'chat', '--mcp', odd('hangs'), ...always].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const terminal = new Chat('script', ['--quiet', '--return', '--command', `exec ${quoted}`, '/dev/null']);
    const type = (keys) => terminal.child.stdin.write(keys);
    await terminal.says('> ');
    type('paint it\n');
    await terminal.says('"tools/call"');
    type('\x03');
    await terminal.says('notifications/cancelled');
    await terminal.says('\n> ', 2);
    type('again\n');
    await terminal.says('"tools/call"', 2);
    type('\x03');
    await terminal.says('\n> ', 3);
    type('\x03');
    assert.equal(await terminal.code(), 130, terminal.text);
  });
});
