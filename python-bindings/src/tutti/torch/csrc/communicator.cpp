#include "communicator.h"

#include "interpreter.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>
#include <climits>
#include <cstdlib>
#include <cstring>

#include <c10/util/Exception.h>

namespace tutti_torch {

const tutti_functions *functions = nullptr;

int to_timeout_ms(milliseconds timeout)
{
    if (timeout.count() < 1) {
        return 1;
    }
    return timeout.count() < INT_MAX ? static_cast<int>(timeout.count()) : INT_MAX;
}

namespace {

// ---- Meeting ----------------------------------------------------------------------------------------------

// Where rank 0 could not serve, before the reason.
constexpr char kFailed[] = "failed: ";

// What rank 0 needs in order to tell the others where it serves.
struct Announcement {
    c10d::Store &store;
    std::string key;
    std::exception_ptr exception;
    bool is_made;
};

int announce(void *context, const char *address)
{
    auto *announcement = static_cast<Announcement *>(context);
    try {
        announcement->store.set(announcement->key, std::string(address));
        announcement->is_made = true;
        return 0;
    } catch (...) { // C must not see it
        announcement->exception = std::current_exception();
        return -1;
    }
}

bool is_loopback(const sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        return ntohl(reinterpret_cast<const sockaddr_in *>(address)->sin_addr.s_addr) >> 24 == 127;
    }
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6 *>(address)->sin6_addr);
}

bool is_one_host()
{
    const char *local_size = getenv("LOCAL_WORLD_SIZE"), *world_size = getenv("WORLD_SIZE");
    return local_size && world_size && strcmp(local_size, world_size) == 0;
}

// Does it say that a loopback address is meant?  "localhost" and "127.0.0.1" do.
bool is_loopback_name(const char *name)
{
    return strcmp(name, "localhost") == 0 || strncmp(name, "127.", 4) == 0 || strcmp(name, "::1") == 0;
}

// The address from which this host reaches `name`, as tutti takes an interface; "" where there is none.
std::string address_toward(const char *name)
{
    addrinfo hints{};
    addrinfo *found = nullptr;
    hints.ai_socktype = SOCK_DGRAM;
    if (getaddrinfo(name, "9", &hints, &found) != 0) { // nothing is sent: any port will do
        return "";
    }
    std::string result;
    for (const addrinfo *entry = found; entry && result.empty(); entry = entry->ai_next) {
        sockaddr_storage own{};
        socklen_t length = sizeof own;
        auto *address = reinterpret_cast<sockaddr *>(&own);
        char text[INET6_ADDRSTRLEN];
        int fd = socket(entry->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            continue;
        }
        if (connect(fd, entry->ai_addr, entry->ai_addrlen) == 0 && getsockname(fd, address, &length) == 0 &&
            getnameinfo(address, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
            result = std::string(text) + (own.ss_family == AF_INET6 ? "/128" : "/32");
        }
        // A host's own name is often a loopback address to itself, where no other host would reach it.
        if (is_loopback(address) && !is_one_host() && !is_loopback_name(name)) {
            result.clear();
        }
        close(fd);
    }
    freeaddrinfo(found);
    return result;
}

// Where rank 0 serves: where torch's own ranks meet, unless the user has named an interface.
std::string meeting_interface()
{
    const char *master = getenv("MASTER_ADDR");
    return getenv("TUTTI_INTERFACE") || !master ? "" : address_toward(master);
}

std::string address_of_rank_0(c10d::Store &store, const std::string &key, milliseconds timeout)
{
    auto begin = std::chrono::steady_clock::now();
    auto complain = [&](const char *why) {
        auto waited = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
        TORCH_CHECK_WITH(DistBackendError, false,
                         "tutti: rank 0 has not told its address through the store in ", waited.count(),
                         " ms (the time-out is ", timeout.count(),
                         "): has it come to init_process_group(), or failed there? (", why, ")");
    };
    try {
        store.wait({key}, timeout);
    } catch (const c10::Error &error) {
        complain(error.what_without_backtrace());
    } catch (const std::exception &error) {
        complain(error.what());
    }
    std::string address = store.get_to_str(key);
    TORCH_CHECK_WITH(DistBackendError, address.rfind(kFailed, 0) != 0, "tutti: rank 0 could not begin: ",
                     address.substr(std::min(address.size(), sizeof kFailed - 1)));
    return address;
}

std::exception_ptr exception_with(const tutti_error &error, int status)
{
    const char *text = error.code != TUTTI_OK ? error.message : functions->strerror(status);
    c10::SourceLocation here{__func__, __FILE__, static_cast<uint32_t>(__LINE__)};
    if (status == TUTTI_ERR_ARGUMENT) {
        return std::make_exception_ptr(c10::ValueError(here, std::string("tutti: ") + text));
    }
    return std::make_exception_ptr(c10::DistBackendError(here, std::string("tutti: ") + text));
}

} // namespace

std::shared_ptr<Communicator> Communicator::join(const c10::intrusive_ptr<c10d::Store> &store, int rank,
                                                 int size, milliseconds timeout)
{
    // How often this rank has come here with this store: the address of an earlier time must not be taken.
    int64_t round = store->add("tutti/rank/" + std::to_string(rank), 1);
    Announcement announcement{*store, "tutti/address/" + std::to_string(round), nullptr, false};
    std::string rendezvous, interface = meeting_interface();
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.rank = rank;
    config.size = size;
    config.call_timeout_ms = to_timeout_ms(timeout);
    if (!getenv("TUTTI_JOIN_TIMEOUT")) {
        config.join_timeout_ms = to_timeout_ms(timeout);
    }
    if (size > 1 && rank == 0) {
        config.announce = announce;
        config.announce_context = &announcement;
        config.interface = interface.empty() ? nullptr : interface.c_str();
    } else if (size > 1) {
        rendezvous = address_of_rank_0(*store, announcement.key, timeout);
        config.rendezvous = rendezvous.c_str();
    }
    tutti_comm *handle = nullptr;
    int status = functions->init(&config, &handle);
    std::shared_ptr<Communicator> communicator(new Communicator(handle, nullptr));
    if (announcement.exception) {
        std::rethrow_exception(announcement.exception);
    }
    if (status < 0) {
        if (rank == 0 && size > 1 && !announcement.is_made) { // the others need not wait for it
            struct tutti_error error = TUTTI_ERROR_INIT;
            functions->get_error(handle, &error);
            store->set(announcement.key, std::string(kFailed) + error.message);
        }
        std::rethrow_exception(communicator->exception_of(status));
    }
    return communicator;
}

// Waits for what a thread does for this one.  When the time is up, or a signal handler raises, it ends the
// group, so that the thread comes back, too.
void Communicator::await(std::future<int> &done, milliseconds timeout, const std::string &what)
{
    const auto begin = std::chrono::steady_clock::now();
    try {
        while (done.wait_for(milliseconds(100)) != std::future_status::ready) {
            check_signals();
            TORCH_CHECK_WITH(DistBackendError, std::chrono::steady_clock::now() - begin < timeout,
                             "tutti: ", what, " was not complete within ", timeout.count(),
                             " ms: have all its ranks come to it?");
        }
    } catch (...) {
        abort(what + " was given up");
        done.wait();
        throw;
    }
}

std::shared_ptr<Communicator> Communicator::subgroup(std::shared_ptr<Communicator> root,
                                                     const std::vector<int> &ranks, milliseconds timeout)
{
    tutti_comm *handle = nullptr;
    auto done = std::async(std::launch::async, [&] {
        return functions->subgroup(root->handle_, ranks.data(), static_cast<int>(ranks.size()), &handle);
    });
    root->await(done, timeout, c10::str("new_group() of ranks ", ranks));
    int status = done.get();
    if (status < 0) {
        std::rethrow_exception(root->exception_of(status));
    }
    return std::shared_ptr<Communicator>(new Communicator(handle, std::move(root)));
}

Communicator::~Communicator()
{
    join_leavers(true);
    functions->free(handle_);
}

void Communicator::leave(milliseconds timeout)
{
    if (left_.exchange(true)) {
        return;
    }
    if (root_) {
        root_->let_leave(shared_from_this());
        return;
    }
    auto done = std::async(std::launch::async, [this, timeout] {
        int status = functions->finalize(handle_, to_timeout_ms(timeout));
        if (status != TUTTI_OK) {
            abort("the process group was destroyed"); // what is under way must end
        }
        return status;
    });
    try {
        await(done, milliseconds::max(), "destroy_process_group()");
    } catch (...) {
        join_leavers(true);
        throw;
    }
    join_leavers(true);
}

void Communicator::let_leave(std::shared_ptr<Communicator> child)
{
    join_leavers(false);
    auto is_done = std::make_shared<std::atomic<bool>>(false);
    std::lock_guard<std::mutex> lock(leavers_mutex_);
    leavers_.push_back({std::thread([child = std::move(child), is_done]() mutable {
                            functions->finalize(child->handle_, INT_MAX);
                            child.reset();
                            *is_done = true;
                        }),
                        is_done});
}

void Communicator::join_leavers(bool all)
{
    std::list<Leaver> ended;
    {
        std::lock_guard<std::mutex> lock(leavers_mutex_);
        for (auto entry = leavers_.begin(); entry != leavers_.end();) {
            auto next = std::next(entry);
            if (all || *entry->is_done) {
                ended.splice(ended.end(), leavers_, entry);
            }
            entry = next;
        }
    }
    for (Leaver &leaver : ended) {
        if (leaver.thread.get_id() == std::this_thread::get_id()) {
            leaver.thread.detach(); // it drops the last reference to this
        } else {
            leaver.thread.join();
        }
    }
}

void Communicator::abort(const std::string &reason)
{
    functions->abort(handle_, reason.c_str());
}

std::exception_ptr Communicator::exception_of(int status) const
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    functions->get_error(handle_, &error);
    return exception_with(error, status);
}

} // namespace tutti_torch
