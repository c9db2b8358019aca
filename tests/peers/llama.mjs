// llama.cpp, through node-llama-cpp, on one GGUF file: what it thinks of given tokens, and timings.
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

let llama;

export class Peer {
  // With `exact`, keys and values are kept in F32 and attention is computed plainly: nothing is rounded that need not be.
  // `sequences` are computed at a time, each with a context of contextSize.
  static async open(modelPath, { threads = 2, contextSize = 2048, batchSize = 512, exact = false, sequences = 1 } = {}) {
    const peer = new Peer();
    llama ??= await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error });
    peer.model = await llama.loadModel({ modelPath, gpuLayers: 0 });
    const plain = { flashAttention: false, experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32' };
    peer.context = await peer.model.createContext({ contextSize, batchSize, threads, sequences, ...(exact ? plain : {}) });
    peer.sequences = Array.from({ length: sequences }, () => peer.context.getSequence());
    peer.sequence = peer.sequences[0];
    return peer;
  }

  // The distribution after each of `tokens`' last `count` + 1 prefixes but the whole: for the i-th of the last `count`
  // tokens, a map from token to probability given everything before it.
  async distributions(tokens, count) {
    await this.sequence.clearHistory();
    const from = tokens.length - count - 1;
    const input = tokens.slice(0, -1).map((token, i) =>
      i < from ? token : [token, { generateNext: { probabilities: true, options: { temperature: 0 } } }]);
    const output = await this.sequence.controlledEvaluate(input);
    return output.slice(from).map((item) => item.next.probabilities);
  }

  // The probabilities of the next token after each prefix of `tokens`, the whole included, indexed by token: arrays,
  // because maps of large vocabularies for many positions do not fit in Node's memory.
  async predictions(tokens) {
    await this.sequence.clearHistory();
    const wanted = { generateNext: { probabilities: true, options: { temperature: 0 } } };
    const all = [];
    await this.sequence.controlledEvaluate(tokens.map((token) => [token, wanted]), {
      onTokenResult: (i, { next }) => {
        all[i] = new Float32Array(next.probabilities.size);
        for (const [token, probability] of next.probabilities) all[i][token] = probability;
        delete next.probabilities;
      },
    });
    return all;
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

  // Tokens a second of as many sequences as there are prompts, each of which makes `count` further tokens: of all
  // together, from when all have their first token. They go in step: a sequence asks for its next token when the others
  // have theirs, so that each batch is of all. The library would go on with those that are ready, in ever other parts.
  async rate(prompts, count) {
    const streams = prompts.map((prompt, i) => this.sequences[i].evaluate(prompt, { temperature: 0, yieldEogToken: true }));
    const step = async () => {
      const tokens = await Promise.all(streams.map((stream) => stream.next()));
      if (tokens.some(({ done }) => done)) throw new Error('llama.cpp ended a sequence before it had all of its tokens');
    };
    await Promise.all(this.sequences.map((sequence) => sequence.clearHistory()));
    await step();
    const start = performance.now();
    for (let i = 0; i < count; ++i) await step();
    const seconds = (performance.now() - start) / 1000;
    await Promise.all(streams.map((stream) => stream.return()));
    return (streams.length * count) / seconds;
  }

  async close() {
    await this.context.dispose();
    await this.model.dispose();
  }
}

// The same on a file of an encoder.
export class EncoderPeer {
  // A reranker's, with `ranks`. A whole text is computed at once, so that the batch is as large as the context.
  static async open(modelPath, { threads = 2, contextSize = 1024, ranks = false } = {}) {
    const peer = new EncoderPeer();
    llama ??= await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error });
    peer.model = await llama.loadModel({ modelPath, gpuLayers: 0 });
    const options = { contextSize, batchSize: contextSize, threads };
    peer.context = ranks
      ? await peer.model.createRankingContext({ ...options, template: '[CLS]{{query}}[SEP]{{document}}[SEP]' })
      : await peer.model.createEmbeddingContext(options);
    return peer;
  }

  // Of token ids, [CLS] and [SEP] among them; of any length.
  async embed(tokens) {
    return (await this.context.getEmbeddingFor(tokens)).vector;
  }

  // The logistic function of the head's output.
  rank(query, document) {
    return this.context.rank(query, document);
  }

  async close() {
    await this.context.dispose();
    await this.model.dispose();
  }
}
