// A line from a gateway to a server, on which a test holds or cuts a stream at a place that it chooses, however fast
// either end is. It knows streams by the marks that the gateway asks for (docs/resume.md).
import { once } from 'node:events';
import net from 'node:net';

const mark = ': tidemill {"choice"';

export class Link {
  // `atMark(n)` is waited for before the n-th mark that came on a connection goes on, or the rest of it where it came in
  // pieces; where it gives false, the line is cut.
  static async start(server, atMark = () => true) {
    const link = new Link();
    link.port = Number(new URL(server.url).port);
    link.heads = [];
    link.sockets = new Set();
    link.listener = net.createServer((gateway) => link.carry(gateway, atMark));
    await once(link.listener.listen(0, '127.0.0.1'), 'listening');
    link.url = `http://127.0.0.1:${link.listener.address().port}`;
    return link;
  }

  async carry(gateway, atMark) {
    const server = net.connect(this.port, '127.0.0.1');
    for (const [socket, other] of [[gateway, server], [server, gateway]]) {
      this.sockets.add(socket);
      socket.on('error', () => {}); // 'close' follows
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.end();
      });
    }
    let text = '';
    gateway.on('data', (piece) => {
      text += piece.toString('latin1');
      for (let end; (end = text.indexOf('\r\n\r\n')) >= 0; text = text.slice(end + 4)) this.heads.push(text.slice(0, end));
    });
    gateway.pipe(server);
    let marks = 0;
    let last = Buffer.alloc(0); // the end of what has gone on, where a mark may have begun
    try {
      for await (const piece of server) {
        const known = Buffer.concat([last, piece]);
        let sent = last.length;
        for (let from = 0, at; (at = known.indexOf(mark, from)) >= 0; from = at + 1) {
          const until = Math.max(at + 1, sent);
          gateway.write(known.subarray(sent, until));
          sent = until;
          if (!(await atMark(++marks))) return this.cut();
        }
        gateway.write(known.subarray(sent));
        last = known.subarray(Math.max(0, known.length - mark.length + 1));
      }
    } catch {
      gateway.destroy(); // the server broke off, or the gateway
    }
  }

  // What the requests that were posted here say in a header, in the order in which they came.
  posted(header) {
    const line = new RegExp(`^${header}: (.*)$`, 'im');
    return this.heads.filter((head) => head.includes('POST /')).map((head) => line.exec(head)?.[1]);
  }

  cut() {
    this.listener.close();
    for (const socket of this.sockets) socket.destroy();
  }
}
