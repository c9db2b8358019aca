// llama.cpp, through node-llama-cpp, on one GGUF file: greedy tokens and timings.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

export class Peer {
  static async open(modelPath, { threads = 2, contextSize = 2048, batchSize = 512 } = {}) {
    const peer = new Peer();
    peer.llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error });
    peer.model = await peer.llama.loadModel({ modelPath, gpuLayers: 0 });
    peer.context = await peer.model.createContext({ contextSize, batchSize, threads });
    peer.sequence = peer.context.getSequence();
    return peer;
  }

  // The `count` most likely tokens after `prompt` (ids), one after the other.
  async greedy(prompt, count) {
    await this.sequence.clearHistory();
    const tokens = [];
    for await (const token of this.sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      tokens.push(token);
      if (tokens.length >= count) break;
    }
    return tokens;
  }

  // Seconds to take in `prompt`, and then seconds for `count` further tokens.
  async time(prompt, count) {
    await this.sequence.clearHistory();
    const start = performance.now();
    let first;
    let made = 0;
    for await (const _ of this.sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      first ??= performance.now();
      if (++made > count) break;
    }
    return { prefill: (first - start) / 1000, decode: (performance.now() - first) / 1000 };
  }

  async close() {
    await this.context.dispose();
    await this.model.dispose();
  }
}
