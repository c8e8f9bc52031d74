// What both Socket.IO peers do: clients join rooms and publish to them.

export function rooms(io) {
  // As Socket.IO's page on memory usage advises: the first HTTP request is not kept for the connection's life.
  io.engine.on("connection", (connection) => (connection.request = null));

  io.on("connection", (socket) => {
    socket.on("subscribe", async (room, acknowledge) => {
      await socket.join(room);
      acknowledge();
    });
    socket.on("publish", (room, data, acknowledge) => {
      io.to(room).emit("message", room, data);
      acknowledge();
    });
  });
}
