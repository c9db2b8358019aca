// Training and distilling with the built program: where it has libtorch, and where it has not.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, watch, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { program } from './server.mjs';

function tidemill(...args) {
  const done = spawnSync(program, args, { input: '', encoding: 'utf8', maxBuffer: 1 << 26 });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

const trains = JSON.parse(tidemill('version', '--json').out).trains;
const without = trains ? 'this build has libtorch' : false;
const withIt = trains ? false : 'this build has no libtorch (make distill)';

// Python of a few thousand tokens.
function python(functions, word) {
  return Array.from({ length: functions }, (_, i) =>
    `def ${word}_${i}(width, height):\n    """Return the ${word} number ${i}."""\n    return width * ${i}\n\n`).join('\n');
}

describe('without libtorch', { skip: without }, () => {
  test('distill and train name the package and how to build again', () => {
    for (const command of ['distill', 'train']) {
      const refused = tidemill(command, '--student', 'micro', '--text', 'README.md', '-o', 'never.gguf');
      assert.equal(refused.code, 1);
      assert.match(refused.err, /libtorch-dev/);
      assert.match(refused.err, /make distill/);
    }
    assert.match(tidemill('version').out, /built without training/);
  });
});

describe('with libtorch', { skip: withIt, timeout: 500_000 }, () => {
  let folder;
  let text;
  const at = (name) => path.join(folder, name);
  const shape = ['--student', '32:1:1:32', '--window', '16', '--batch', '4', '-t', '2'];
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-'));
    mkdirSync(at('text'));
    text = at('text');
    writeFileSync(path.join(text, 'a.py'), python(60, 'area'));
    writeFileSync(path.join(text, 'notes.md'), 'not code');
    writeFileSync(at('held-out.py'), python(20, 'volume'));
  });
  after(() => rmSync(folder, { recursive: true }));

  test('a student is distilled, runs, and is judged beside its teacher', () => {
    const out = at('pupil.gguf');
    const made = tidemill('distill', ...shape, '--text', text, '--ending', '.py', '--held-out', at('held-out.py'),
      '--tokens', '4000', '--write', '160', '--keep', '8', '-o', out, '--json');
    assert.equal(made.code, 0, made.err);
    const report = JSON.parse(made.out);
    assert.equal(report.text.files, 1);
    assert.equal(report.text.written_by_teacher, 160);
    assert.equal(report.steps, Math.floor(4000 / 64));
    assert.ok(report.held_out.accuracy > 0 && report.held_out.accuracy < 1);
    assert.ok(Math.abs(report.accuracy_kept - report.held_out.accuracy / report.teacher_held_out.accuracy) < 1e-12);
    // Nothing is left of the way there.
    assert.deepEqual(readdirSync(folder).filter((name) => name.startsWith('pupil')), ['pupil.gguf']);
    const inspected = JSON.parse(tidemill('inspect', out, '--json').out);
    assert.match(JSON.stringify(inspected), /distilled from nano-coder/);
    const judged = tidemill('eval', out, '--text', at('held-out.py'), '--window', '16', '--json');
    assert.equal(judged.code, 0, judged.err);
    assert.match(judged.out, new RegExp(String(report.held_out.tokens)));
    const completed = tidemill('complete', '-m', out, '--prompt', 'def ', '--max-tokens', '4');
    assert.equal(completed.code, 0, completed.err);
  });

  test('a run that was killed goes on, and ends with the same file', async () => {
    const args = (out) => ['train', ...shape, '--text', path.join(text, 'a.py'), '--tokens', '12800', '--checkpoint-every', '5',
      '-o', out];
    // The file holds the student's name.
    mkdirSync(at('whole'));
    mkdirSync(at('killed'));
    const whole = path.join(at('whole'), 'pupil.gguf');
    const killed = path.join(at('killed'), 'pupil.gguf');
    const unbroken = tidemill(...args(whole));
    assert.equal(unbroken.code, 0, unbroken.err);

    const seen = new Promise((resolve) => {
      const watcher = watch(at('killed'), (_, name) => {
        if (name !== 'pupil.gguf.checkpoint') return;
        watcher.close();
        resolve();
      });
    });
    const run = spawn(program, args(killed), { stdio: 'ignore' });
    await seen;
    run.kill('SIGKILL');
    await once(run, 'exit');
    assert.ok(existsSync(`${killed}.checkpoint`));
    const rest = tidemill(...args(killed));
    assert.equal(rest.code, 0, rest.err);
    assert.match(rest.err, /going on after step \d+/);
    assert.deepEqual(readFileSync(killed), readFileSync(whole));
    assert.ok(!existsSync(`${killed}.checkpoint`));
  });

  test('what cannot be is said before anything is written', () => {
    const out = at('never.gguf');
    const refusals = [
      [['--text', at('absent.py'), '-o', out], 1, /absent\.py/],
      [['--text', text, '--ending', '.none', '-o', out], 2, /no text to learn from/],
      [['--text', path.join(text, 'notes.md'), '-o', out], 2, /text is too short/],
      [['--text', text, '-o', path.join(folder, 'absent', 'out.gguf')], 1, /absent/],
      [['--text', text, '-o', folder], 1, /is a folder/],
      [['--text', text, '-o', path.join(text, 'a.py'), '--held-out', path.join(text, 'a.py')], 2, /is the text held out/],
      [['--text', text, '-o', out, '--student', '33:1:1'], 2, /multiple of 32/],
    ];
    for (const [args, code, words] of refusals) {
      const refused = tidemill('distill', ...shape.slice(args.includes('--student') ? 2 : 0), ...args);
      assert.equal(refused.code, code, refused.err);
      assert.match(refused.err, words);
    }
    const share = tidemill('train', '--student', '23%', '--text', text, '-o', out);
    assert.equal(share.code, 2);
    assert.match(share.err, /no teacher to have a share of/);
    assert.ok(!readdirSync(folder).some((name) => name.startsWith('never')));
  });
});
