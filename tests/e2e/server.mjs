// Starts the built program for a test and ends it again. Waits on what the program says, never on time.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const program = process.env.TIDEMILL_PROGRAM ?? path.join(root, 'build/release/tidemill');

export class Server {
  static start(...flags) {
    return Server.launch('serve', ...flags);
  }

  static async launch(command, ...flags) {
    const server = new Server();
    server.output = '';
    server.child = spawn(program, [command, '--port', '0', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    server.exited = once(server.child, 'exit').then(([code, signal]) => ({ code, signal }));
    const ready = new Promise((resolve, reject) => {
      const take = (chunk) => {
        server.output += chunk;
        const match = server.output.match(/(https?:\/\/127\.0\.0\.1:\d+)[\s\S]*curl /);
        if (match) resolve(match[1]);
      };
      server.child.stdout.setEncoding('utf8').on('data', take);
      server.child.stderr.setEncoding('utf8').on('data', take);
      server.exited.then(() => reject(new Error(`the server ended before it was ready:\n${server.output}`)));
    });
    server.url = await ready;
    return server;
  }

  // Sends SIGTERM and gives {code, signal}.
  async stop() {
    this.child.kill('SIGTERM');
    return this.exited;
  }

  kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }

  async metric(name) {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const line = text.split('\n').find((l) => l.startsWith(`${name} `) || l.startsWith(`${name}{`));
    if (line === undefined) throw new Error(`no metric ${name} in\n${text}`);
    return Number(line.slice(line.lastIndexOf(' ') + 1));
  }

  // Asks again until the condition holds; the test runner's timeout bounds it.
  async until(condition) {
    while (!(await condition())) await new Promise(setImmediate);
  }
}
