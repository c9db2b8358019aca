// A real redis-server of a test's own: on a free port of the loopback, keeping nothing on disk.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

export async function freePort() {
  const listener = net.createServer();
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

export class Redis {
  static installed() {
    return spawnSync('redis-server', ['--version']).status === 0;
  }

  // Returns when it takes connections, by its own word: at its port somebody else may listen.
  static async start(choosePort = freePort) {
    const said = [];
    while (said.length < 5) { // somebody else may take the port first
      const redis = new Redis();
      const port = await choosePort();
      redis.url = `redis://127.0.0.1:${port}/0`;
      redis.child = spawn('redis-server', ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no'], { stdio: ['ignore', 'pipe', 'pipe'] });
      redis.exited = once(redis.child, 'exit');
      let output = '';
      const ready = new Promise((resolve) => {
        const take = (chunk) => {
          output += chunk;
          if (output.includes('Ready to accept connections')) resolve(true);
        };
        redis.child.stdout.setEncoding('utf8').on('data', take);
        redis.child.stderr.setEncoding('utf8').on('data', take);
      });
      if (await Promise.race([ready, redis.exited.then(() => false)])) return redis;
      said.push(output);
    }
    throw new Error(`redis-server does not start:\n${said.join('\n')}`);
  }

  kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }
}
