// Copies text. Rejects where the browser does not allow it, as on pages that come over plain HTTP from another machine.
export const copyText = async (text: string): Promise<void> => navigator.clipboard.writeText(text);
