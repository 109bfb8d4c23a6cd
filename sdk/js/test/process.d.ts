declare const process: { env: { [name: string]: string | undefined } };
