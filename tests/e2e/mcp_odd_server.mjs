// An MCP server over standard input and output that does one thing as it should not: node mcp_odd_server.mjs WHAT.
// What it is sent goes to standard error.
import readline from 'node:readline';

const what = process.argv[2];
const write = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const paint = {
  name: 'paint',
  inputSchema: { type: 'object', properties: { colour: { enum: ['red', 'green'] } }, required: ['colour'], additionalProperties: false },
};
const tools = {
  'bad tools': [
    { name: 'of_text', inputSchema: 'text' },
    { name: 'impossible', inputSchema: { type: 'object', properties: { n: { type: 'integer', minimum: 5, maximum: 2 } }, required: ['n'] } },
    { name: 'broken', inputSchema: { type: 'object', properties: { n: { type: 'no type' } } } },
    paint, paint,
    { name: '', inputSchema: { type: 'object' } },
    { name: '\u001b[31mred', inputSchema: 5 },
    { name: '\u001b[31mred', inputSchema: { type: 'object', properties: { n: { type: 'no type' } } } },
  ],
  'no tools': [],
}[what] ?? [paint];

const called = {
  hangs: () => {},
  floods: () => {
    const some = () => {
      for (let i = 0; i < 1000; i++) write({ method: 'notifications/progress', params: { progressToken: 1, progress: i } });
      setImmediate(some);
    };
    some();
  },
  'says much': (id) => write({ id, result: { content: [{ type: 'text', text: 'word '.repeat(20000) }] } }),
}[what] ?? ((id) => write({ id, result: { content: [{ type: 'text', text: 'painted' }] } }));

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  process.stderr.write(`${line}\n`);
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  if (method === 'initialize') {
    const protocolVersion = what === 'of another version' ? '1990-01-01' : params.protocolVersion;
    write({ id, result: what === 'of no version' ? {} : { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'odd', version: '1' } } });
  } else if (method === 'tools/list') {
    write({ id, result: what === 'of many pages' ? { tools: [], nextCursor: 'x' } : { tools } });
  } else if (method === 'tools/call') {
    called(id);
  }
});
