// Encoders and rerankers, as the clients of three kinds of servers ask for their work: directly and through the gateway.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from './chaos.mjs';
import { program, Server } from './server.mjs';

const query = 'The tide turns the mill';
const documents = ['What is a mill?', 'the tide', 'Wind, and nothing but wind.', 'THE TIDE TURNS THE MILL'];

async function post(url, body) {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

function assertRanked(results, count) {
  assert.deepEqual(results.map((r) => r.index).sort(), [...Array(count).keys()]);
  for (let i = 1; i < count; ++i) assert.ok(results[i - 1].relevance_score >= results[i].relevance_score);
}

describe('models that embed and rank', { timeout: 300_000 }, () => {
  let folder;
  const start = (shape) => {
    const model = path.join(folder, `${shape}.gguf`);
    execFileSync(program, ['synth', shape, model, '--type', 'q8_0']);
    return Server.start('--model', model);
  };
  before(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-rerank-')); });
  after(() => rmSync(folder, { recursive: true }));

  test('a reranker answers in the shapes of Cohere, Jina and vLLM', async () => {
    const server = await start('rerank-tiny');
    // Jina's and vLLM's answers have the documents' texts.
    const jina = await post(`${server.url}/v1/rerank`, { model: 'rerank-tiny', query, documents, top_n: 4 });
    assert.equal(jina.status, 200, JSON.stringify(jina.body));
    assertRanked(jina.body.results, documents.length);
    for (const { index, relevance_score: score, document } of jina.body.results) {
      assert.equal(document.text, documents[index]);
      assert.ok(score >= 0 && score <= 1);
      const alone = await post(`${server.url}/rerank`, { query, documents: [documents[index]], truncate_prompt_tokens: -1 });
      assert.equal(alone.body.results[0].relevance_score, score, 'neighbours do not matter');
    }
    // Cohere's client writes its default out, and has no texts in answers.
    const cohere = await post(`${server.url}/v2/rerank`, { model: 'rerank-tiny', query, documents, max_tokens_per_doc: 4096 });
    assert.deepEqual(cohere.body.results, jina.body.results.map(({ document, ...rest }) => rest));
    const cut = await post(`${server.url}/v2/rerank`, { query, documents, max_tokens_per_doc: 2 });
    assert.equal(cut.status, 400);
    assert.equal(cut.body.error.param, 'documents[0]');
    const none = await post(`${server.url}/v1/embeddings`, { input: 'x' });
    assert.equal(none.status, 400);
    assert.match(none.body.error.message, /makes no embeddings/);

    const gateway = await startGateway([server.url]);
    await gateway.until(async () => (await fetch(`${gateway.url}/ready`)).status === 200);
    const through = await post(`${gateway.url}/v1/rerank`, { query, documents });
    assert.deepEqual(through.body.results, jina.body.results);
    await gateway.stop();
    await server.stop();
  });

  test('an encoder ranks by the embeddings that it makes', async () => {
    const server = await start('bert-tiny');
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const { data, usage } = await client.embeddings.create({ model: 'bert-tiny', input: [query, ...documents] });
    const vectors = data.map(({ embedding }) => embedding);
    const { body } = await post(`${server.url}/v1/rerank`, { query, documents });
    assertRanked(body.results, documents.length);
    assert.equal(body.results[0].index, 3, 'the same words, but for their case');
    assert.equal(body.usage.prompt_tokens, usage.prompt_tokens);
    for (const { index, relevance_score: score } of body.results) {
      const cosine = vectors[0].reduce((sum, x, i) => sum + x * vectors[index + 1][i], 0);
      assert.ok(Math.abs(cosine - score) < 1e-5, `${cosine} and ${score}`);
    }
    await server.stop();
  });
});
