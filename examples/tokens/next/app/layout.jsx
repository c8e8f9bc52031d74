// Next.js needs a layout for pages, such as the one that it shows for errors.
export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
