// A real redis-server of a test's own: on a free port of the loopback, keeping nothing on disk.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';

async function freePort() {
  const listener = net.createServer();
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

async function listens(port) {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

export class Redis {
  static installed() {
    return spawnSync('redis-server', ['--version']).status === 0;
  }

  // Returns when it listens.
  static async start() {
    for (let attempt = 0; attempt < 5; ++attempt) { // somebody else may take the port first
      const redis = new Redis();
      const port = await freePort();
      redis.url = `redis://127.0.0.1:${port}/0`;
      redis.child = spawn('redis-server', ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no'], { stdio: 'ignore' });
      redis.exited = once(redis.child, 'exit');
      while (redis.child.exitCode === null) {
        if (await listens(port)) return redis;
      }
    }
    throw new Error('redis-server does not start');
  }

  kill() {
    this.child.kill('SIGKILL');
    return this.exited;
  }
}
