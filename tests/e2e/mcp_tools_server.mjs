// An MCP server over standard input and output, for the tests of `tidemill chat --mcp`.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { z } from 'zod';

const server = new McpServer({ name: 'test', version: '1.0.0' });
server.registerTool(
  'paint',
  { description: 'Paints something', inputSchema: { colour: z.enum(['red', 'green']), coats: z.number().int().min(1).max(9) } },
  async ({ colour, coats }) => ({ content: [{ type: 'text', text: `painted ${colour} ${coats} times` }] }),
);
await server.connect(new StdioServerTransport());
