// Calls a tool with the official SDK for TypeScript: call.mjs SOCKET KEY TOKEN-FILE RESOURCE
import { readFileSync } from 'node:fs';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { signed } from './dpop.mjs';

const [socket, key, token, resource] = process.argv.slice(2);
const broker = await signed({
  socket, resource, key: readFileSync(key), token: readFileSync(token, 'utf8').trim(),
});
const client = new Client({ name: 'example', version: '1' });
// The host of the address means nothing: the socket decides. `/mcp/time` is one tool alone.
await client.connect(new StreamableHTTPClientTransport(new URL('http://stockade/mcp/time'), { fetch: broker.fetch }));
for (const tool of (await client.listTools()).tools) console.log(tool.name, '-', tool.description);
const result = await client.callTool({ name: 'now', arguments: { timezone: 'Asia/Tokyo' } });
console.log(result.structuredContent.timezone);
await client.close();
await broker.close();
