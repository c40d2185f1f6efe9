// Calls the broker as a host would, with a client from npm, and says what came of each step.
// client.mjs LIBRARY TRANSPORT ERA SOCKET KEY TOKEN-FILE RESOURCE INSTANCE STOCKADE
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { signed } from './dpop.mjs';

const [library, transport, era, socket, key, tokenFile, resource, instance, stockade] = process.argv.slice(2);
const old = library === '@modelcontextprotocol/sdk';
const { Client } = await import(old ? `${library}/client/index.js` : library);
const { StreamableHTTPClientTransport } = await import(old ? `${library}/client/streamableHttp.js` : library);
const { StdioClientTransport } = await import(old ? `${library}/client/stdio.js` : `${library}/stdio`);
const token = readFileSync(tokenFile, 'utf8').trim();
const broker = await signed({ socket, resource, token, key: readFileSync(key) });

// Newline-delimited JSON over the socket, with token and proof in each request.
class Lines {
  async start() {
    this.stream = connect(socket);
    let buffer = '';
    this.stream.setEncoding('utf8').on('data', (text) => {
      const lines = (buffer + text).split('\n');
      buffer = lines.pop();
      for (const line of lines) this.onmessage?.(JSON.parse(line));
    });
    this.stream.on('close', () => this.onclose?.()).on('error', (error) => this.onerror?.(error));
  }
  async send(message) {
    if ('id' in message && 'method' in message) {
      const own = { 'stockade/authorization': `DPoP ${token}`, 'stockade/dpop': await broker.proof() };
      message = { ...message, params: { ...message.params, _meta: { ...message.params?._meta, ...own } } };
    }
    this.stream.write(`${JSON.stringify(message)}\n`);
  }
  async close() {
    this.stream.destroy();
  }
}

// The nonce of the next proofs: lines have no second try of their own.
await broker.fetch('http://stockade/v1/calls', {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"tool":"none","verb":"none","arguments":{}}',
});
const shim = ['mcp', '--instance', instance, '--key', key, '--token-file', tokenFile];
const ways = {
  http: () => new StreamableHTTPClientTransport(new URL('http://stockade/mcp'), { fetch: broker.fetch }),
  lines: () => new Lines(),
  shim: () => new StdioClientTransport({ command: stockade, args: shim }),
};
const mode = era === 'legacy' ? 'legacy' : { pin: era };
const client = new Client({ name: 'client', version: '1' }, { versionNegotiation: { mode } });
await client.connect(ways[transport]());
const call = (name, args, options) =>
  old ? client.callTool({ name, arguments: args }, undefined, options) : client.callTool({ name, arguments: args }, options);

console.log('list', ...(await client.listTools()).tools.map((tool) => tool.name).sort());
const good = await call('everything.echo', { message: 'hello' });
console.log('call', good.isError, good.content[0].text);
const wrong = await call('everything.echo', { message: 1 });
console.log('schema', wrong.isError, wrong.content[0].text.split('\n').at(-1));
// Another one each time: equal calls in a row end at the guard against loops.
const failed = await call('time.now', { timezone: `Nowhere/City${process.pid}` });
console.log('failure', failed.isError, failed.content[0].text.includes('Nowhere/City'));
// Of a 403 the newer SDK keeps what `WWW-Authenticate` says.
const said = (error) => [error.message, error.errorDescription, JSON.stringify(error.data)].join();
const unknown = await call('time.remove', {}).catch(said);
console.log('unknown', `${unknown}`.includes('no such operation'));
const seen = [];
const onprogress = ({ progress }) => seen.push(progress);
const long = await call('everything.long', { duration: 1, steps: 4 }, { onprogress });
// The SDK takes up a result before a notification that came just before it: the last step may be missing.
console.log('progress', long.isError, seen.join() === [...seen].sort().join(), seen.length >= 3);
const stop = new AbortController();
const running = call('everything.long', { duration: 50, steps: 100 }, { signal: stop.signal, onprogress: () => stop.abort() });
await running.then(() => console.log('not cancelled'), () => {});
console.log('cancel', (await call('everything.echo', { message: 'after' })).content[0].text);
await client.close();
await broker.close();
