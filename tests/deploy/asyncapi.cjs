// Prints what AsyncAPI's parser finds in each document that is named, as JSON: [{channels, operations, diagnostics}, …].
// References to other files are followed; nothing is fetched.
const { readFileSync } = require('node:fs');
const { Parser } = require('@asyncapi/parser');

async function read(file) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'), { source: file });
  const said = diagnostics.map((one) => ({
    severity: one.severity,
    place: `${one.path.join('.')} (line ${one.range.start.line + 1})`,
    message: one.message,
    code: String(one.code),
  }));
  const channels = document ? document.channels().all().map((one) => one.id()) : [];
  const operations = document ? document.operations().all().map((one) => one.id()) : [];
  return { channels, operations, diagnostics: said };
}

async function main(files) {
  const found = [];
  for (const file of files) found.push(await read(file));
  console.log(JSON.stringify(found));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
