// SHA-256 of the values of every array of a store as zarrita reads them: node zarrita_digests.mjs STORE KEY...
import { createHash } from "node:crypto";
import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

globalThis.Float16Array ??= (await import("@petamoriken/float16")).Float16Array;
const [path, ...keys] = process.argv.slice(2);
const root = await zarr.open(new FileSystemStore(path), { kind: "group" });
for (const key of keys) {
  const array = await zarr.open(root.resolve(key), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  const values = typeof data[0] === "string" ? JSON.stringify([...data]) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  console.log(JSON.stringify([key, array.dtype, shape, createHash("sha256").update(values).digest("hex")]));
}
