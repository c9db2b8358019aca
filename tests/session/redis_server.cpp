#include "session/redis_server.hpp"

#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <netinet/in.h>
#include <sstream>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "wire/tls_certificate.hpp"

namespace tidemill::test {

namespace {

std::optional<std::string> program() {
  std::istringstream path(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");  // NOLINT(concurrency-mt-unsafe)
  for (std::string folder; std::getline(path, folder, ':');) {
    std::string candidate = folder + "/redis-server";
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return std::nullopt;
}

uint16_t free_port() {
  const int file = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ::bind(file, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(file, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(file);
  return ntohs(address.sin_port);
}

// Whether the server has said that it listens, in its log behind the first `before` bytes. A port that takes
// connections might be somebody else's, of which the server is about to hear.
bool listens(const std::string& log, std::streamoff before) {
  std::ifstream file(log);
  file.seekg(before);
  const std::string said((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return said.find("Ready to accept connections") != std::string::npos;
}

}  // namespace

bool RedisServer::installed() {
  return program().has_value();
}

RedisServer::RedisServer(std::vector<std::string> arguments, bool tls) : arguments_(std::move(arguments)), tls_(tls) {
  if (tls) {
    const TlsCertificate made = TlsCertificate::for_localhost();
    folder_.put("certificate.pem", made.certificate_pem);
    folder_.put("key.pem", made.key_pem);
  }
  for (int attempt = 0; attempt < 5 && !running(); ++attempt) {  // somebody else may take the port first
    port_ = free_port();
    start();
  }
}

std::string RedisServer::url(const std::string& credentials) const {
  return "redis://" + (credentials.empty() ? "" : credentials + "@") + "127.0.0.1:" + std::to_string(port_) + "/0";
}

void RedisServer::start() {
  std::vector<std::string> words = {*program(),     "--bind", "127.0.0.1", "--save",      "",
                                    "--appendonly", "no",     "--dir",     folder_.path()};
  const std::string number = std::to_string(port_);
  if (tls_) {
    for (const char* word : {"--port", "0", "--tls-port", number.c_str(), "--tls-auth-clients", "no"})
      words.emplace_back(word);
    for (const auto& [flag, file] :
         {std::pair("--tls-cert-file", "certificate.pem"), std::pair("--tls-ca-cert-file", "certificate.pem"),
          std::pair("--tls-key-file", "key.pem")}) {
      words.emplace_back(flag);
      words.push_back(folder_.path() / file);
    }
  } else {
    words.emplace_back("--port");
    words.push_back(number);
  }
  words.insert(words.end(), arguments_.begin(), arguments_.end());
  std::vector<char*> argv;
  for (std::string& word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = folder_.path() / "log";
  std::error_code none_yet;
  const auto logged = std::filesystem::file_size(log, none_yet);
  const std::streamoff before = none_yet ? 0 : static_cast<std::streamoff>(logged);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    // What the test has open would stay open here after it is closed there: a connection that its other end never sees
    // closed.
    ::close_range(STDERR_FILENO + 1, ~0U, 0);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!listens(log, before)) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_ || std::chrono::steady_clock::now() > deadline) {
      pid_ = -1;
      return;
    }
    std::this_thread::yield();
  }
}

void RedisServer::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void RedisServer::restart() {
  kill();
  start();
}

void RedisServer::freeze() {
  ::kill(pid_, SIGSTOP);
  int status = 0;
  ::waitpid(pid_, &status, WUNTRACED);
}

void RedisServer::thaw() {
  ::kill(pid_, SIGCONT);
}

}  // namespace tidemill::test
