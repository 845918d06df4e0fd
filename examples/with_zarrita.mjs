// A field, a depth and the names in Node or a browser: npm install zarrita && node with_zarrita.mjs nyu.zarr
// Fields are float16, which JavaScript has since Node 24; before: npm install @petamoriken/float16
import FileSystemStore from "@zarrita/storage/fs"; // in a browser: new zarr.FetchStore("https://…/nyu.zarr")
import * as zarr from "zarrita";

globalThis.Float16Array ??= (await import("@petamoriken/float16")).Float16Array;
const root = await zarr.open(new FileSystemStore(process.argv[2]), { kind: "group" });
for (const key of ["640x480/gradient", "640x480/depth", "640x480/rgb"]) {
  const array = await zarr.open(root.resolve(key), { kind: "array" });
  const frame = await zarr.get(array, [0, ...array.shape.slice(1).map(() => null)]);
  console.log(key, array.dtype, frame.shape.join("x"), "sum:", frame.data.reduce((sum, value) => sum + value, 0));
}
const names = await zarr.get(await zarr.open(root.resolve("name"), { kind: "array" }));
console.log(names.data.join(" "));
