// node unpack.mjs ARCHIVE TARGET: Brotli, which Python's standard library does not know.
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const [archive, target] = process.argv.slice(2);
await pipeline(createReadStream(archive), createBrotliDecompress(), createWriteStream(target));
