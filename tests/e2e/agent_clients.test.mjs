// The libraries that agents are written with: Vercel's AI SDK and LangChain.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { tool as langchainTool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { generateObject, generateText, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';
import { Server } from './server.mjs';

const timeout = 300_000;
const prompt = 'def fibonacci(n):\n';
const Form = z.object({
  colour: z.enum(['red', 'green']),
  size: z.number().int().min(1).max(20),
  sold: z.boolean(),
});

describe('the AI SDK', { timeout }, () => {
  let server;
  let model;

  before(async () => {
    server = await Server.start();
    const provider = createOpenAICompatible({
      name: 'tidemill',
      baseURL: `${server.url}/v1`,
      includeUsage: true,
      supportsStructuredOutputs: true,
    });
    model = provider('nano-coder');
  });
  after(() => server.kill());

  test('generates and streams the same text', async () => {
    const asked = { model, prompt, temperature: 0, maxOutputTokens: 16, maxRetries: 0 };
    const whole = await generateText(asked);
    assert.ok(whole.text.length > 0);
    assert.equal(whole.usage.outputTokens, 16);
    const streamed = streamText(asked);
    let text = '';
    for await (const piece of streamed.textStream) text += piece;
    assert.equal(text, whole.text);
    assert.equal((await streamed.usage).outputTokens, 16);
  });

  test('generates objects, whole and streamed', async () => {
    const asked = { model, prompt, schema: Form, maxOutputTokens: 200, maxRetries: 0, seed: 3 };
    assert.ok(Form.safeParse((await generateObject(asked)).object).success);
    const streamed = streamObject(asked);
    for await (const partial of streamed.partialObjectStream) assert.equal(typeof partial, 'object');
    assert.ok(Form.safeParse(await streamed.object).success);
  });

  test('runs a tool', async () => {
    let given;
    const tools = {
      paint: tool({
        description: 'Paints something',
        inputSchema: Form,
        strict: true,
        execute: async (input) => {
          given = input;
          return 'done';
        },
      }),
    };
    const result = await generateText({
      model, prompt, tools, toolChoice: { type: 'tool', toolName: 'paint' }, maxOutputTokens: 200, maxRetries: 0, seed: 2,
    });
    assert.equal(result.toolCalls.length >= 1, true);
    assert.ok(Form.safeParse(given).success);
    assert.equal(result.toolResults[0].output, 'done');
    assert.equal(result.finishReason, 'tool-calls');
  });

  test('aborts in mid-stream', async () => {
    const controller = new AbortController();
    const streamed = streamText({
      model, prompt, maxOutputTokens: 3000, maxRetries: 0, abortSignal: controller.signal, onError: () => {},
    });
    for await (const piece of streamed.textStream) {
      if (piece) controller.abort();
    }
    await server.until(async () => (await server.metric('tidemill_requests_running')) === 0);
  });
});

describe('LangChain', { timeout }, () => {
  let server;
  let model;
  const chat = (more) =>
    new ChatOpenAI({
      model: 'nano-coder', apiKey: 'unused', maxRetries: 0, maxTokens: 200, temperature: 0,
      configuration: { baseURL: `${server.url}/v1` }, ...more,
    });

  before(async () => {
    server = await Server.start();
    model = chat();
  });
  after(() => server.kill());

  test('invokes and streams', async () => {
    const short = chat({ maxTokens: 12 });
    const whole = await short.invoke(prompt);
    assert.ok(whole.content.length > 0);
    assert.equal(whole.usage_metadata.output_tokens, 12);
    let text = '';
    for await (const chunk of await short.stream(prompt)) text += chunk.content;
    assert.equal(text, whole.content);
  });

  test('calls a tool', async () => {
    const paint = langchainTool(async () => 'done', { name: 'paint', description: 'Paints something', schema: Form });
    const bound = model.bindTools([paint], { tool_choice: 'required', strict: true });
    const message = await bound.invoke(prompt);
    assert.ok(message.tool_calls.length >= 1);
    assert.equal(message.tool_calls[0].name, 'paint');
    assert.ok(Form.safeParse(message.tool_calls[0].args).success);
  });

  test('gives structured output', async () => {
    const structured = model.withStructuredOutput(Form, { method: 'jsonSchema', strict: true });
    assert.ok(Form.safeParse(await structured.invoke(prompt)).success);
  });

  test('says what is wrong', async () => {
    await assert.rejects(chat({ model: 'other' }).invoke(prompt), (e) => e.status === 404);
  });
});
