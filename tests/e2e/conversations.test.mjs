// The Conversations API of the official `openai` client: at `tidemill serve`, and at a gateway before it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from './chaos.mjs';
import { Link } from './link.mjs';
import { Server } from './server.mjs';

const asked = { model: 'nano-coder', temperature: 0, max_output_tokens: 24 };
const code = 'def fibonacci(n):\n    """Return the n-th number."""\n';
const timeout = 300_000;
const connect = (server) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });

async function ready(gateway) {
  await gateway.until(async () => (await (await fetch(`${gateway.url}/backends`)).json()).backends.every((b) => b.ready));
}

// All items, the oldest first, in pages of two.
async function itemsOf(client, id) {
  const items = [];
  for await (const item of client.conversations.items.list(id, { order: 'asc', limit: 2 })) items.push(item);
  return items;
}

for (const place of ['serve', 'gateway']) {
  describe(`conversations at ${place}`, { timeout }, () => {
    let server;
    let gateway;
    let client;

    before(async () => {
      server = await Server.start();
      if (place === 'gateway') {
        gateway = await startGateway([server.url]);
        await ready(gateway);
      }
      client = connect(gateway ?? server);
    });
    after(async () => {
      await gateway?.kill();
      await server.kill();
    });

    test('are made, read, changed and deleted', async () => {
      const made = await client.conversations.create({ items: [{ role: 'user', content: code }], metadata: { topic: 'a' } });
      assert.match(made.id, /^conv_/);
      assert.equal(made.object, 'conversation');
      assert.deepEqual(await client.conversations.retrieve(made.id), made);
      const updated = await client.conversations.update(made.id, { metadata: { topic: 'b' } });
      assert.deepEqual(updated, { ...made, metadata: { topic: 'b' } });

      const added = await client.conversations.items.create(made.id, {
        items: [
          { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'one' }] },
          { type: 'message', role: 'assistant', content: 'two' },
        ],
      });
      assert.equal(added.object, 'list');
      assert.equal(added.data.length, 2);
      assert.equal(added.last_id, added.data[1].id);
      const items = await itemsOf(client, made.id);
      assert.deepEqual(items.map((item) => [item.type, item.role, item.status, item.content[0].type, item.content[0].text]), [
        ['message', 'user', 'completed', 'input_text', code],
        ['message', 'user', 'completed', 'input_text', 'one'],
        ['message', 'assistant', 'completed', 'output_text', 'two'],
      ]);
      assert.deepEqual(await client.conversations.items.retrieve(added.first_id, { conversation_id: made.id }), items[1]);
      assert.deepEqual(await client.conversations.items.delete(added.first_id, { conversation_id: made.id }), updated);
      await assert.rejects(client.conversations.items.retrieve(added.first_id, { conversation_id: made.id }), OpenAI.NotFoundError);
      assert.deepEqual(await itemsOf(client, made.id), [items[0], items[2]]);

      assert.deepEqual(await client.conversations.delete(made.id), { id: made.id, object: 'conversation.deleted', deleted: true });
      await assert.rejects(client.conversations.retrieve(made.id), OpenAI.NotFoundError);
      await assert.rejects(client.responses.create({ ...asked, input: code, conversation: made.id }), (error) => {
        assert.ok(error instanceof OpenAI.NotFoundError);
        assert.equal(error.param, 'conversation');
        return true;
      });
    });

    test('go on from turn to turn, whole and streamed', async () => {
      const conversation = await client.conversations.create();
      const first = await client.responses.create({ ...asked, input: code, conversation: conversation.id });
      assert.deepEqual(first.conversation, { id: conversation.id });
      let last;
      let text = '';
      for await (const event of await client.responses.create({ ...asked, input: '# more\n', conversation: { id: conversation.id }, stream: true })) {
        if (event.type === 'response.created') assert.deepEqual(event.response.conversation, { id: conversation.id });
        if (event.type === 'response.output_text.delta') text += event.delta;
        last = event;
      }
      assert.equal(last.type, 'response.incomplete');
      assert.deepEqual(last.response.conversation, { id: conversation.id });
      const items = await itemsOf(client, conversation.id);
      assert.deepEqual(items.map((item) => [item.role, item.content[0].text]), [
        ['user', code],
        ['assistant', first.output_text],
        ['user', '# more\n'],
        ['assistant', text],
      ]);
      assert.deepEqual(items[1], first.output[0]);
      // The same in one request that knows of no conversation.
      const whole = await client.responses.create({
        ...asked,
        store: false,
        input: [{ role: 'user', content: code }, ...first.output, { role: 'user', content: '# more\n' }],
      });
      assert.equal(text, whole.output_text);
      assert.equal(last.response.usage.input_tokens, whole.usage.input_tokens);
    });

    test('hold turns whose response is not kept', async () => {
      const conversation = await client.conversations.create();
      const response = await client.responses.create({ ...asked, input: code, conversation: conversation.id, store: false });
      await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
      assert.equal((await itemsOf(client, conversation.id)).length, 2);
    });

    test('raise errors that name the parameter', async () => {
      const conversation = await client.conversations.create();
      await assert.rejects(client.responses.create({ ...asked, input: code, conversation: 5 }), (error) => error.status === 400 && error.param === 'conversation');
      await assert.rejects(client.responses.create({ ...asked, input: code, conversation: conversation.id, previous_response_id: 'resp_1' }), (error) => error.status === 400 && error.param === 'conversation');
      const many = Array.from({ length: 21 }, () => ({ role: 'user', content: 'x' }));
      await assert.rejects(client.conversations.create({ items: many }), (error) => error.status === 400 && error.param === 'items');
      await assert.rejects(client.conversations.create({ metadata: { k: 5 } }), (error) => error.status === 400 && error.param === 'metadata.k');
      await assert.rejects(client.conversations.items.list(conversation.id, { limit: 101 }), (error) => error.status === 400 && error.param === 'limit');
      assert.deepEqual(await itemsOf(client, conversation.id), []);
    });
  });
}

test('a turn that another server takes up is appended once, as if nothing had happened', { timeout }, async (t) => {
  const servers = await Promise.all([Server.start(), Server.start()]);
  t.after(() => Promise.all(servers.map((server) => server.kill())));
  const expected = await connect(servers[0]).responses.create({ ...asked, input: code });

  // The line breaks, and its server ends, when the client has read of the stream.
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  let dead;
  const links = await Promise.all(servers.map((server, i) => Link.start(server, async (mark) => {
    if (dead !== undefined || mark < 4) return true;
    dead = i;
    await begun;
    await server.kill();
    return false;
  })));
  t.after(() => links.forEach((link) => link.cut()));
  const gateway = await startGateway(links.map((link) => link.url));
  t.after(() => gateway.kill());
  await ready(gateway);

  const client = connect(gateway);
  const conversation = await client.conversations.create();
  let last;
  for await (const event of await client.responses.create({ ...asked, input: code, conversation: conversation.id, stream: true })) {
    begin();
    last = event;
  }
  assert.equal(last.type, 'response.incomplete');
  assert.equal(await gateway.metric('tidemill_gateway_resumed_streams_total{kind="exact"}'), 1);
  const items = await itemsOf(client, conversation.id);
  assert.deepEqual(items.map((item) => [item.role, item.content[0].text]), [['user', code], ['assistant', expected.output_text]]);
  const next = await client.responses.create({ ...asked, input: '# more\n', conversation: conversation.id });
  assert.equal((await itemsOf(client, conversation.id)).length, 4);
  assert.ok(next.usage.input_tokens > expected.usage.input_tokens);
});
