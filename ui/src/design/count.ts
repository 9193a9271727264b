// How many.
export const count = (of: number) => of.toLocaleString("en");
